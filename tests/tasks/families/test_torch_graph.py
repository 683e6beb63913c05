"""Every family's graphs run in PyTorch as the bench runs them, and compute what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tasks.families import family_named
from tasks.torch_fp8.torch_graph import load
from tests.tasks.families.support import CONFIGS, EACH_NAME, ENCODERS, SIGLIPS, cosines, random_feed, run_onnx

pytestmark = pytest.mark.usefixtures("quick_products")

LEAST = {None: 0.9999, "fp8-compact": 0.985}


@pytest.mark.parametrize("recipe", LEAST)
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", EACH_NAME)
def test_it_is_onnx_runtime(name: str, encoder: Any, recipe: str | None, graph: Any) -> None:
    path = graph(name, encoder, recipe)
    loaded = load(path, "cpu", kernels=True)
    feed = random_feed(family_named(name), CONFIGS[name], encoder, 4)
    with torch.no_grad():
        got = loaded.module(*(torch.from_numpy(values) for values in feed.values()))
    assert got.dtype == torch.float16
    assert cosines(got.float().numpy(), run_onnx(path, feed)).min() > LEAST[recipe]
    layers = 2 if name not in SIGLIPS or encoder == "text" else 3  # and its pooling head
    assert len(list(loaded.plan.attentions())) == layers
