"""The ONNX Runtime engine computes what the ONNX file computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from artifacts.errors import BuildError
from tasks.clip.weights import WeightReader
from tasks.demo import SNAPSHOT
from tasks.engines import BatchProfile, backend_for
from tasks.graph import writer
from tasks.graph.writer import write_onnx
from tests.wording import refusal

TARGET = "onnxruntime"


def build(model: Path, engine: Path) -> Path:
    backend_for(TARGET).build(model, engine, TARGET, BatchProfile())
    return engine


def infer(engine: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with backend_for(TARGET).runner(engine, "name") as runner:
        assert runner.name == "name"
        return {name: np.array(value) for name, value in runner.infer(feed).items()}


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
@pytest.mark.parametrize("encoder", ["image", "text"])
def test_engine_equals_the_onnx_file(
    encoder: str, precision: str, demo_graph: Any, random_inputs: Any, run_onnx: Any, tmp_path: Path
) -> None:
    engine = build(demo_graph(encoder, precision), tmp_path / "e.engine")
    name, output = ("pixel_values", "image_embeds") if encoder == "image" else ("input_ids", "text_embeds")
    for batch in (1, 5):
        inputs = random_inputs(SNAPSHOT, encoder, batch)
        got = infer(engine, {name: inputs})
        assert list(got) == [output]
        assert got[output].dtype == np.float16
        expected = run_onnx(demo_graph(encoder, precision), inputs)
        if encoder == "text":
            assert np.array_equal(got[output], expected)
        else:  # the default level may lay out the convolution for this CPU, which changes the order of its sums
            a, b = got[output].astype(np.float64), expected.astype(np.float64)
            assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() >= 0.999


def test_fp8_weights_are_kept(demo_graph: Any, tmp_path: Path) -> None:
    """The optimizer must not fold them back into FP32: the engine would be larger than FP16's."""
    engine = build(demo_graph("text", "fp8"), tmp_path / "e.engine")
    assert engine.stat().st_size < demo_graph("text", "fp16").stat().st_size


def test_external_data_goes_beside_the_engine(
    skeleton_of: Any, random_inputs: Any, run_onnx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SINGLE_FILE_LIMIT", 0)
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    reader = WeightReader([SNAPSHOT / "model.safetensors"])
    write_onnx(skeleton_of(SNAPSHOT, "text"), reader, source / "fp16.onnx", {})
    ids = random_inputs(SNAPSHOT, "text", 3)
    expected = run_onnx(source / "fp16.onnx", ids)
    engine = build(source / "fp16.onnx", target / "fp16.onnxruntime.engine")
    for path in source.iterdir():
        path.unlink()  # the engine stands alone
    assert sorted(p.name for p in target.iterdir()) == [engine.name, f"{engine.name}.data"]
    assert np.array_equal(infer(engine, {"input_ids": ids})["text_embeds"], expected)


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with refusal(BuildError, "m.onnx"):
        build(tmp_path / "m.onnx", tmp_path / "e.engine")


def test_a_graph_with_foreign_nodes_is_refused(demo_graph: Any, tmp_path: Path) -> None:
    model = onnx.load(demo_graph("text", "fp8"))
    next(node for node in model.graph.node if node.op_type == "QuantizeLinear").domain = "trt"
    model.opset_import.append(onnx.helper.make_opsetid("trt", 1))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(BuildError, match="trt"):
        build(tmp_path / "m.onnx", tmp_path / "e.engine")


def test_it_says_that_both_precisions_are_emulated() -> None:
    backend = backend_for(TARGET)
    assert all("emulated" in (backend.emulation(precision) or "") for precision in ("fp16", "fp8"))
    assert backend.device()
