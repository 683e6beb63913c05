# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Counting activations by their upper bits in one pass over the memory of a GPU; imported only where Triton is.

`torch.bincount` asks the GPU for the largest bin first, and waits for the answer, for every tensor.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 8192
_WARPS = 16


@triton.jit
def _count_kernel(
    bits_ptr, counts_ptr, largest_ptr, count, share, SHIFT: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr
):
    """Each program counts its share of the values in its own memory, and adds that to everybody's counts once."""
    start = tl.program_id(0).to(tl.int64) * share
    bins = tl.arange(0, BINS)
    held = tl.zeros((BINS,), tl.int32)
    largest = 0
    for offset in range(0, share, BLOCK):
        place = start + offset + tl.arange(0, BLOCK)
        inside = place < count
        bits = tl.load(bits_ptr + place, mask=inside, other=0) & 0x7FFFFFFF
        held += tl.histogram(tl.where(inside, bits >> SHIFT, BINS - 1), BINS)  # the last bin is NaN's: nobody reads it
        largest = tl.maximum(largest, tl.max(bits, 0))
    tl.atomic_add(counts_ptr + bins, held.to(tl.int64), mask=held > 0, sem="relaxed")
    tl.atomic_max(largest_ptr, largest, sem="relaxed")


def add_counts(values: Tensor, counts: Tensor, largest: Tensor, shift: int) -> None:
    """Add the values of a tensor to counts of magnitudes, without waiting for the GPU.

    Args:
        values: FP32 on a GPU, any shape.
        counts: int64, one for each value of the upper 31 - `shift` bits of a magnitude, a power of two of them.
        largest: FP32, one value, not negative: the largest magnitude so far, NaN once there was one.
        shift: How many of the 32 bits a bin leaves out.
    """
    # A permuted tensor is counted as it lies in memory: the order does not matter.
    flat = values.permute(sorted(range(values.dim()), key=values.stride, reverse=True)).reshape(-1)
    programs = torch.cuda.get_device_properties(values.device).multi_processor_count
    share = triton.cdiv(triton.cdiv(len(flat), programs), _BLOCK) * _BLOCK
    if not len(flat):
        return
    _count_kernel[(triton.cdiv(len(flat), share),)](
        flat.view(torch.int32),
        counts,
        largest.view(torch.int32),
        len(flat),
        share,
        SHIFT=shift,
        BINS=len(counts),
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )
