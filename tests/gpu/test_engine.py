"""Small engines on a real GPU: built, called and captured, against the same ONNX file computed node by node."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from artifacts.errors import EngineUnavailable
from tasks.bench.engine_target import TARGETS, EngineVariant, why_not
from tasks.bench.machine import on_device, why_no_gpu
from tasks.bench.settings import PRECISIONS, Precision
from tasks.torch_fp8.onnx_graph import random_inputs
from tasks.torch_fp8.torch_graph import load

_COSINE = {"fp16": 0.9999, "fp8": 0.99}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reasons = [why_no_gpu() or why_not(target, "fp16") for target in TARGETS]
    if all(reasons):
        pytest.skip("; ".join(str(reason) for reason in dict.fromkeys(reasons)))
    pytest.importorskip("transformers", reason="a small encoder is traced from transformers' model")
    from tests.benchmarks.architectures import Architecture, Tower
    from tests.gpu.exports import make_export

    small = Architecture("small", Tower(2, 128, 2, 256), Tower(2, 128, 2, 256), 56, 64, "quick_gelu")
    folder = tmp_path_factory.mktemp("export")
    return make_export(folder, small, folder / "skeletons", "cuda")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("encoder", ["image", "text"])
@pytest.mark.parametrize("target", TARGETS)
def test_an_engine_computes_what_the_graph_says(export: Path, target: str, encoder: str, precision: Precision) -> None:
    reason = why_not(target, precision)
    if reason is not None:
        pytest.skip(reason)
    path = export / encoder / f"{precision}.onnx"
    try:
        engine = EngineVariant.load(path, target, (2, 8))
    except EngineUnavailable as error:  # a GPU that the runtime does not list was tried
        pytest.skip(error.what)
    plain = load(path, "cuda", fused=False)
    sets = [on_device(random_inputs(plain.graph, 8, seed)) for seed in (1, 2)]
    with torch.no_grad():
        wanted = [plain.module(*inputs) for inputs in sets]
        called = [engine(*inputs) for inputs in sets]
        prepared = engine.prepare(sets)
        timed = [prepared.run(index).clone() for index in (0, 1)]
    for got, expected in zip([*called, *timed], [*wanted, *wanted], strict=True):
        assert torch.cosine_similarity(got.double(), expected.double()).min() > _COSINE[precision]
    assert prepared.note is None, "captured in a CUDA graph"
    found = prepared.evidence()
    assert found.doubt is None and found.fp8_gemm_share is not None
    assert (found.fp8_gemm_share > 0) == (precision == "fp8")
    engine.close()
