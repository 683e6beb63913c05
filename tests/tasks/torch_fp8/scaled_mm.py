"""`torch._scaled_mm` on a CPU, by one matrix product in FP32: PyTorch's own does one element after the other there.

It has the same operands and the same FP32 sums; `test_scaled_mm.py` holds it to the real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch


@contextmanager
def quick_scaled_mm() -> Iterator[None]:
    """Inside, eager FP8 products on the CPU are quick; what is compiled is not changed."""
    patch = pytest.MonkeyPatch()
    patch.setattr(torch, "_scaled_mm", scaled_mm)
    try:
        yield
    finally:
        patch.undo()


def scaled_mm(
    a: torch.Tensor,
    b: torch.Tensor,
    scale_a: torch.Tensor,
    scale_b: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    out_dtype: torch.dtype,
    use_fast_accum: bool = False,
) -> torch.Tensor:
    """(m, k) by (k, n), both FP8, with a scale each -> (m, n) of `out_dtype`."""
    del use_fast_accum
    product = a.float() @ b.float() * (scale_a * scale_b)
    return (product if bias is None else product + bias.float()).to(out_dtype)
