# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Rounding FP16 values to FP8 and back in one pass, for evaluating graphs; import it only where Triton is installed."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 4096


@triton.jit
def _round_trip_kernel(x_ptr, out_ptr, count, scale, back, BLOCK: tl.constexpr):
    """Element by element: divide, saturate, round to nearest even, multiply, round to FP16."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    scaled = tl.div_rn(tl.load(x_ptr + place, inside, 0.0).to(tl.float32), scale)
    stored = tl.clamp(scaled, -448.0, 448.0, propagate_nan=tl.PropagateNan.ALL).to(tl.float8e4nv)
    tl.store(out_ptr + place, (stored.to(tl.float32) * back).to(tl.float16), inside)


def round_trip_on_gpu(x: Tensor, scale: float, back: float) -> Tensor:
    """As `torch_ops.round_trip`, on a GPU with FP8 conversions (Ada and later)."""
    x = x.contiguous()
    out = torch.empty_like(x)
    count = x.numel()
    if count:
        _round_trip_kernel[(triton.cdiv(count, _BLOCK),)](x, out, count, scale, back, BLOCK=_BLOCK)
    return out
