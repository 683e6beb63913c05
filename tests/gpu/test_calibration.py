"""The maxima that are collected in front of products: those that ONNX Runtime sees, and on a GPU the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tasks.bench.machine import why_no_gpu
from tasks.torch_fp8.torch_graph import load
from tests.gpu.calibration import Observed, throughput
from tests.gpu.exports import make_export, photographs

ENCODERS = ("image", "text")


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="a small encoder is traced from transformers' model")
    from tests.benchmarks.architectures import Architecture, Tower

    small = Architecture("small", Tower(1, 64, 1, 128), Tower(1, 64, 1, 128), 56, 64, "quick_gelu")
    folder = tmp_path_factory.mktemp("export")
    return make_export(folder, small, folder / "skeletons", "cpu")


@pytest.mark.parametrize("encoder", ENCODERS)
def test_they_are_what_onnx_runtime_sees(export: Path, encoder: str) -> None:
    if importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("onnxruntime is not installed")
    import onnxruntime as ort

    loaded = load(export / encoder / "fp16.onnx", "cpu")
    batches = [photographs(loaded.graph, count, "cpu") for count in (3, 2)]
    observed = Observed(loaded)
    with torch.no_grad():
        for inputs in batches:
            assert torch.equal(observed(*inputs), loaded.module(*inputs))
    found = observed.amax()
    tensors = {f"{linear.module}.input_quantizer": linear.x for linear in loaded.plan.linears()}
    for attention in loaded.plan.attentions():
        tensors[f"{attention.module}.q_bmm_quantizer"] = attention.q
        tensors[f"{attention.module}.v_bmm_quantizer"] = attention.v
    model = onnx.load(str(export / encoder / "fp16.onnx"))
    wanted = sorted(set(tensors.values()) - {value.name for value in model.graph.output})
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    largest = dict.fromkeys(wanted, 0.0)
    for inputs in batches:
        feed = {port.name: tensor.numpy() for port, tensor in zip(loaded.graph.inputs, inputs, strict=True)}
        for name, array in zip(wanted, session.run(wanted, feed), strict=True):
            largest[name] = max(largest[name], float(np.abs(array).max()))
    assert len(tensors) >= 7
    for quantizer, tensor in tensors.items():
        assert found[quantizer] == pytest.approx(largest[tensor], rel=0.01), quantizer


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_gpu_collects_what_a_cpu_does(export: Path, encoder: str) -> None:
    reason = why_no_gpu()
    if reason is not None:
        pytest.skip(reason)
    found = []
    for device in ("cpu", "cuda"):
        loaded = load(export / encoder / "fp16.onnx", device)
        observed = Observed(loaded)
        with torch.no_grad():
            observed(*photographs(loaded.graph, 8, device))
        found.append(observed.amax())
    assert found[0] == pytest.approx(found[1], rel=0.01)


def test_throughput_is_that_of_the_best_round(export: Path) -> None:
    loaded = load(export / "text" / "fp16.onnx", "cpu")
    with torch.no_grad():
        found = throughput("small", "text", loaded, [photographs(loaded.graph, 2, "cpu")] * 2, rounds=1)
    assert (found.model, found.encoder, found.device, found.batch) == ("small", "text", "cpu", 2)
    assert found.share == found.calibrating / found.bare > 0
