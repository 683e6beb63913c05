"""Operations and bytes of a small transformer, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.bench.roofline import DeviceRates, Product, count_products, limit_seconds
from tasks.torch_fp8.onnx_graph import OnnxGraph

BATCH, TOKENS, WIDTH, MLP, HEADS, OUT = 3, 17, 128, 256, 2, 64
PIXELS, PATCH = 224, 56


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_the_counts_are_those_made_by_hand(export: Path, precision: str) -> None:
    products = count_products(OnnxGraph.load(export / "image" / f"{precision}.onnx"), BATCH)
    rows, size = BATCH * TOKENS, WIDTH // HEADS
    patch = 3 * PATCH * PATCH
    flops = {
        "conv": 2 * BATCH * (TOKENS - 1) * patch * WIDTH,
        "linear": 2 * rows * (4 * WIDTH * WIDTH + 2 * WIDTH * MLP) * 2 + 2 * BATCH * WIDTH * OUT,
        "attention": 2 * 2 * BATCH * HEADS * TOKENS * TOKENS * size * 2,
    }
    assert {kind: sum(p.flops for p in products if p.kind == kind) for kind in flops} == flops
    width = {"fp16": 2, "fp8": 1}[precision]
    fc1 = next(p for p in products if p.module.endswith("layers.0.mlp.fc1"))
    assert fc1.bytes == width * (rows * WIDTH + WIDTH * MLP) + 2 * rows * MLP
    scores = next(p for p in products if p.module.endswith("layers.0.self_attn"))
    assert scores.bytes == width * 2 * rows * WIDTH + 2 * BATCH * HEADS * TOKENS * TOKENS
    conv = next(p for p in products if p.kind == "conv")
    assert conv.bytes == 2 * (BATCH * 3 * PIXELS**2 + patch * WIDTH + BATCH * (TOKENS - 1) * WIDTH)
    assert [p.fp8 for p in products if p.kind != "conv"] == [precision == "fp8"] * (len(products) - 1)


def test_the_limit_is_the_larger_of_arithmetic_and_bytes() -> None:
    rates = DeviceRates(fp16=100, fp8=200, bandwidth=10)
    products = [Product("a", "linear", True, 4000, 10), Product("b", "attention", True, 4000, 1000)]
    products.append(Product("c", "conv", False, 4000, 1))
    assert limit_seconds(products, rates) == 20 + 100 + 40
    assert limit_seconds(products[:1], DeviceRates(100, None, 10)) == 40
    assert limit_seconds([Product("b", "attention", True, 4000, 1)], rates, attention_fp8=False) == 40
