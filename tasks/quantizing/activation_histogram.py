"""Histograms of an encoder's activations, collected in one pass, and an amax chosen from them.

ModelOpt's `HistogramCalibrator` collects linear bins, which do not work here: values beyond the first batch's maximum
add bins without limit, counts are float32 (a bin stops at 2^24), and E4M3 is a floating-point format. So we collect the
counts.

ModelOpt 0.47 offers three methods for activations in FP8: max; percentile, which its `HistogramCalibrator` computes
from our counts; and MSE, for which we search as its `MseCalibrator` does, with its E4M3 operator (the MSE of
`HistogramCalibrator` calls that operator with too few arguments). Entropy works on integer levels and fails for E4M3.

Import this module inside functions only: it subclasses ModelOpt's classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from modelopt.torch.quantization.calib import HistogramCalibrator
from modelopt.torch.quantization.tensor_quant import scaled_e4m3
from numpy.typing import NDArray

from tasks.quantizing.counting_kernel import add_counts, usable
from tasks.quantizing.recipe import Mse, Percentile

E4M3 = (4, 3)
_SHIFT = 16
_BINS = 1 << (31 - _SHIFT)
_INFINITY = 0x7F80_0000 >> _SHIFT
_PIECE = 1 << 22
"""Values that are counted at a time: their bin numbers take four bytes each."""
_ON_ONE_CORE = 1 << 15
"""Elements up to which PyTorch does not share the work among threads, which wait for each other where cores are busy:
twenty times as long was seen while pictures were decoded."""
CHOOSING_THREADS = 4
"""Threads that choose amaxes: enough to keep up with a GPU, few beside those that decode its pictures."""
_OCTAVES = 4
_PER_OCTAVE = 16


class ActivationHistogram:
    """Counts of |x| by the upper half of its float32 bits: 128 bins per power of two, each less than 0.8 % wide.

    It has a fixed size (256 KiB), a bin for zeros, and does not depend on the order of the values.
    """

    def __init__(self) -> None:
        self.counts: torch.Tensor | None = None  # int64 [_BINS]
        self.largest = torch.zeros(())  # max |x|, exactly

    def add(self, values: torch.Tensor) -> None:
        """Count float32 values of any shape."""
        if self.counts is None:
            self.counts = torch.zeros(_BINS, dtype=torch.int64, device=values.device)
            self.largest = self.largest.to(values.device)
        if usable(values):
            add_counts(values.detach(), self.counts, self.largest, _SHIFT)
            return
        flat = values.detach().reshape(-1)
        for start in range(0, len(flat), _PIECE):
            piece = flat[start : start + _PIECE].abs()
            self.counts += torch.bincount(piece.view(torch.int32) >> _SHIFT, minlength=_BINS)
            self.largest = torch.maximum(self.largest, piece.max())


@dataclass(frozen=True)
class Counted:
    """The counts of a histogram at one time, int64 (bins), and its largest value, on the processor."""

    counts: torch.Tensor
    largest: torch.Tensor

    def amax(self, algorithm: Percentile | Mse) -> float:
        """The amax that the algorithm chooses, at most the largest value. It computes on one core."""
        counts = self.counts[:_INFINITY].numpy()
        counts = counts[: int(np.flatnonzero(counts).max(initial=0)) + 1]
        # The lower edges of the bins, and the upper edge of the last.
        edges = (np.arange(len(counts) + 1, dtype=np.uint32) << _SHIFT).view(np.float32)
        if isinstance(algorithm, Percentile):
            # The lower edge of the percentile's bin: other values in this bin saturate by less than 0.8 %.
            return float(_Calibrator(counts, edges).compute_amax("percentile", percentile=algorithm.percentile))
        return _mse(counts, edges, self.largest)


def snapshots(histograms: Mapping[str, ActivationHistogram]) -> dict[str, Counted]:
    """The counts so far, by the names of the histograms that have any, in one transfer from the device."""
    found = {name: (one.counts, one.largest) for name, one in histograms.items() if one.counts is not None}
    if not found:
        return {}
    counts, largest = (torch.stack(parts).cpu() for parts in zip(*found.values(), strict=True))
    return {name: Counted(*parts) for name, *parts in zip(found, counts, largest, strict=True)}


def choosing(
    pool: Executor, histograms: Mapping[str, ActivationHistogram], algorithm: Percentile | Mse
) -> Callable[[], dict[str, float]]:
    """Begin to choose an amax from each histogram as it is now, beside what the device computes next; calling the
    result waits for them."""
    chosen = {name: pool.submit(seen.amax, algorithm) for name, seen in snapshots(histograms).items()}
    return lambda: {name: amax.result() for name, amax in chosen.items()}


@contextmanager
def counted(quantizers: Mapping[str, Any]) -> Iterator[dict[str, ActivationHistogram]]:
    """Histograms of the inputs of each quantizer inside the block, by its name."""
    histograms = {name: ActivationHistogram() for name in quantizers}

    def count(name: str, _: Any, inputs: tuple[Any, ...]) -> None:
        histograms[name].add(inputs[0])

    with ExitStack() as hooks:
        for name, quantizer in quantizers.items():
            hooks.enter_context(quantizer.register_forward_pre_hook(partial(count, name)))
        yield histograms


def _mse(counts: NDArray[np.int64], edges: NDArray[np.float32], largest: torch.Tensor) -> float:
    """The amax of the least squared error, of candidates at equal ratios from the maximum down to a sixteenth of it.

    Until values saturate, E4M3's error repeats with every power of two, so the position of the amax within its octave
    matters; ModelOpt's own search goes by equal steps. A candidate at a time, as it does, takes five times as long.
    """
    centres = torch.from_numpy((edges[1:].astype(np.float64) + edges[:-1]) / 2).float()
    centres[-1] = largest  # exact, as an outlier alone in its bin decides the result
    found = np.flatnonzero(counts)
    values, weights = centres[found], torch.from_numpy(counts[found].astype(np.float64))
    candidates = largest * 2.0 ** -(torch.arange(_OCTAVES * _PER_OCTAVE + 1) / _PER_OCTAVE)
    errors = []
    for some in torch.split(candidates, max(1, _ON_ONE_CORE // len(found))):
        quantized = scaled_e4m3(values.expand(len(some), -1), some[:, None], None, *E4M3)
        errors.append((weights * (values - quantized).double() ** 2).sum(1))
    return float(candidates[torch.cat(errors).argmin()])


class _Calibrator(HistogramCalibrator):  # type: ignore[misc]
    """ModelOpt's calibrator with a given histogram, as NumPy arrays, because it would convert tensors to int32."""

    def __init__(self, counts: NDArray[np.int64], edges: NDArray[np.float32]) -> None:
        super().__init__(num_bits=E4M3, axis=None)
        self._calib_hist, self._calib_bin_edges = counts, edges
