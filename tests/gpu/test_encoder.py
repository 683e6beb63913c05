"""A small encoder on a real GPU: eager, and compiled, against the same ONNX file computed node by node."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tasks.bench.machine import why_no_gpu
from tasks.torch_fp8.onnx_graph import random_inputs
from tasks.torch_fp8.torch_graph import load

_COSINE = {"fp16": 0.9999, "fp8": 0.99}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reason = why_no_gpu()
    if reason is not None:
        pytest.skip(reason)
    from tests.benchmarks.architectures import Architecture, Tower
    from tests.gpu.exports import make_export

    small = Architecture("small", Tower(2, 128, 2, 256), Tower(2, 128, 2, 256), 56, 64, "quick_gelu")
    folder = tmp_path_factory.mktemp("export")
    return make_export(folder, small, folder / "skeletons", "cuda")


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize("precision", ["fp16", "fp8"])
@pytest.mark.parametrize("encoder", ["image", "text"])
def test_it_computes_what_the_graph_says(export: Path, encoder: str, precision: str, kernels: bool) -> None:
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("the kernels are for Hopper and later")
    path = export / encoder / f"{precision}.onnx"
    ours, plain = load(path, "cuda", kernels=kernels), load(path, "cuda", fused=False)
    for batch in (1, 5):
        inputs = [torch.from_numpy(v).cuda() for v in random_inputs(plain.graph, batch, seed=batch).values()]
        with torch.no_grad():
            got, wanted = ours.module(*inputs), plain.module(*inputs)
        assert torch.cosine_similarity(got.double(), wanted.double()).min() > _COSINE[precision]
