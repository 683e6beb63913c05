"""Activations counted by our kernel are counted as on a processor."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tasks.bench.machine import why_no_gpu

pytestmark = pytest.mark.skipif(why_no_gpu() is not None, reason=str(why_no_gpu()))
_SHIFT = 16
_BINS = 1 << 15


def counts(values: torch.Tensor) -> torch.Tensor:
    """What is expected, one bin for every value of the upper bits; NaN's are not asked for."""
    bits = values.abs().reshape(-1).view(torch.int32) >> _SHIFT
    return torch.bincount(bits, minlength=_BINS)[: _BINS - 1]


def odd(values: torch.Tensor) -> torch.Tensor:
    flat = values.reshape(-1)
    flat[:5] = torch.tensor([0.0, -0.0, float("inf"), 1e-42, -3.4e38])
    return values


MADE: dict[str, Any] = {
    "one value": lambda: torch.full((1,), -2.5),
    "a block and one": lambda: torch.randn(8193),
    "many": lambda: torch.randn(130, 257, 64) * 30,
    "zeros": lambda: torch.zeros(70_000),
    "odd values": lambda: odd(torch.randn(33, 1000)),
    "permuted": lambda: torch.randn(4, 77, 12, 64).permute(0, 2, 1, 3),
    "every second": lambda: torch.randn(100, 200)[:, ::2],
    "none": lambda: torch.empty(0, 5),
}


@pytest.mark.parametrize("name", MADE)
def test_each_bin_holds_what_a_processor_counts(name: str) -> None:
    from tasks.quantizing.counting_kernel import add_counts

    torch.manual_seed(5)
    parts = [MADE[name](), MADE[name]()]
    found = torch.zeros(_BINS, dtype=torch.int64, device="cuda")
    largest = torch.zeros((), device="cuda")
    for part in parts:
        add_counts(part.cuda(), found, largest, _SHIFT)
    expected = sum((counts(part) for part in parts), torch.zeros(_BINS - 1, dtype=torch.int64))
    assert torch.equal(found[: _BINS - 1].cpu(), expected)
    assert largest.item() == max([part.abs().max().item() for part in parts if part.numel()], default=0.0)


def test_nan_is_the_largest() -> None:
    from tasks.quantizing.counting_kernel import add_counts

    found, largest = torch.zeros(_BINS, dtype=torch.int64, device="cuda"), torch.zeros((), device="cuda")
    add_counts(torch.tensor([1.0, float("nan"), float("inf")], device="cuda"), found, largest, _SHIFT)
    add_counts(torch.ones(10, device="cuda"), found, largest, _SHIFT)
    assert torch.isnan(largest).item()
