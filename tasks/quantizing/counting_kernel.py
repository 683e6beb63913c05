# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Counting activations by their upper bits in one pass over the memory of a GPU; imported only where Triton is.

`torch.bincount` asks the GPU for the largest bin first, and waits for the answer, for every tensor.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024
_COPIES = 64
"""Of the counts: who adds to the same place at once waits for the others, and most values fall into few bins."""


@triton.jit
def _count_kernel(
    bits_ptr,
    copies_ptr,
    largest_ptr,
    count,
    COPIES: tl.constexpr,
    SHIFT: tl.constexpr,
    BINS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each program counts one block of values."""
    program = tl.program_id(0)
    place = program.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    bits = tl.load(bits_ptr + place, mask=inside, other=0) & 0x7FFFFFFF
    tl.atomic_add(copies_ptr + (program % COPIES) * BINS + (bits >> SHIFT), 1, mask=inside, sem="relaxed")
    tl.atomic_max(largest_ptr, tl.max(bits, 0), sem="relaxed")


def add_counts(values: Tensor, counts: Tensor, largest: Tensor, shift: int) -> None:
    """Add the values of a tensor to counts of magnitudes, without waiting for the GPU.

    Args:
        values: FP32 on a GPU, any shape.
        counts: int64, one for each value of the upper 31 - `shift` bits of a magnitude.
        largest: FP32, one value, not negative: the largest magnitude so far, NaN once there was one.
        shift: How many of the 32 bits a bin leaves out.
    """
    # A permuted tensor is counted as it lies in memory: the order does not matter.
    flat = values.permute(sorted(range(values.dim()), key=values.stride, reverse=True)).reshape(-1)
    if not len(flat):
        return
    copies = torch.zeros((_COPIES, len(counts)), dtype=torch.int32, device=values.device)
    _count_kernel[(triton.cdiv(len(flat), _BLOCK),)](
        flat.view(torch.int32),
        copies,
        largest.view(torch.int32),
        len(flat),
        COPIES=_COPIES,
        SHIFT=shift,
        BINS=len(counts),
        BLOCK=_BLOCK,
    )
    counts += copies.sum(0)
