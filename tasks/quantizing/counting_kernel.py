"""Counting activations by their upper bits in one pass over the memory of a GPU, in its shared memory.

`torch.bincount` asks the GPU for the largest bin first, and waits for the answer, for every tensor; and it adds in
global memory, where the many values of few bins wait for each other, as Triton does, which has no counters elsewhere.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from unittest import mock

import torch
from torch import Tensor

_THREADS = 1024
_BLOCKS_PER_PROCESSOR = 2
_PER_THREAD = 16
"""Values that make another block worth adding its counts to the others'."""
_MOST_VALUES = 1 << 30
"""In one call: sizes are C's int."""
_FIRST_EXPONENT = -41
_OCTAVES = 64
"""Powers of two whose bins lie in shared memory; the few values beyond are added in global memory."""
_FLOAT32_BIAS = 127

_SOURCE = """
extern "C" __global__ void count_magnitudes(const unsigned* values, unsigned long long* counts, unsigned* largest,
                                            int size, int shift, int first, int bins) {
    extern __shared__ unsigned window[];
    for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) window[bin] = 0;
    __syncthreads();
    unsigned most = 0, zeros = 0;
    auto add = [&](unsigned value) {
        unsigned bits = value & 0x7fffffffu;
        most = max(most, bits);
        unsigned bin = bits >> shift;
        if (bin - first < (unsigned)bins) atomicAdd(window + (bin - first), 1u);
        else if (bin == 0) ++zeros;
        else atomicAdd(counts + bin, 1ull);
    };
    int start = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
    const uint4* fours = reinterpret_cast<const uint4*>(values);
    for (int place = start; place < size / 4; place += step) {
        uint4 four = fours[place];
        add(four.x); add(four.y); add(four.z); add(four.w);
    }
    if (start < size % 4) add(values[size / 4 * 4 + start]);
    most = __reduce_max_sync(0xffffffffu, most);
    zeros = __reduce_add_sync(0xffffffffu, zeros);
    if (threadIdx.x % 32 == 0) {
        atomicMax(largest, most);
        if (zeros) atomicAdd(counts, (unsigned long long)zeros);
    }
    __syncthreads();
    for (int bin = threadIdx.x; bin < bins; bin += blockDim.x)
        if (window[bin]) atomicAdd(counts + first + bin, (unsigned long long)window[bin]);
}
"""


def usable(values: Tensor) -> bool:
    """Whether the kernel can count these values: on a GPU of NVIDIA, Ampere or later, with a PyTorch that compiles."""
    return values.is_cuda and torch.version.hip is None and _kernel(values.device) is not None


@cache
def _kernel(device: torch.device) -> Any:
    if torch.cuda.get_device_capability(device) < (8, 0) or not hasattr(torch.cuda, "_compile_kernel"):
        return None  # the reductions of a warp came with Ampere
    from torch.utils import cpp_extension  # imports setuptools

    # PyTorch looks for CUDA's headers, which are not in its packages, and which this source does not need.
    headers = mock.patch.object(cpp_extension, "CUDA_HOME", cpp_extension.CUDA_HOME or "")
    try:
        with torch.cuda.device(device), headers:
            return torch.cuda._compile_kernel(_SOURCE, "count_magnitudes")
    except (OSError, RuntimeError):  # no NVRTC beside PyTorch, or one without this GPU
        return None


def add_counts(values: Tensor, counts: Tensor, largest: Tensor, shift: int) -> None:
    """Add the values of a tensor to counts of magnitudes, without waiting for the GPU.

    Args:
        values: FP32 on a GPU, any shape; `usable`.
        counts: int64, one for each value of the upper 31 - `shift` bits of a magnitude.
        largest: FP32, one value, not negative: the largest magnitude so far, NaN once there was one.
        shift: How many of the 32 bits a bin leaves out; at least 16, as shared memory holds the bins of 64 octaves.
    """
    # A permuted tensor is counted as it lies in memory: the order does not matter.
    flat = values.permute(sorted(range(values.dim()), key=values.stride, reverse=True)).reshape(-1)
    if flat.data_ptr() % 16:  # the kernel reads four values at a time
        flat = flat.clone()
    per_octave = 1 << (23 - shift)
    bins = _OCTAVES * per_octave
    first = (_FLOAT32_BIAS + _FIRST_EXPONENT) * per_octave
    processors = torch.cuda.get_device_properties(values.device).multi_processor_count
    with torch.cuda.device(values.device):
        for part in torch.split(flat, _MOST_VALUES):
            blocks = min(_BLOCKS_PER_PROCESSOR * processors, -(-len(part) // (_THREADS * _PER_THREAD)))
            if blocks:
                _kernel(values.device)(
                    grid=(blocks, 1, 1),
                    block=(_THREADS, 1, 1),
                    args=[part, counts, largest, len(part), shift, first, bins],
                    shared_mem=4 * bins,
                )
