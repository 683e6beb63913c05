"""Histograms of an encoder's activations, collected in one pass, and an amax chosen from them.

ModelOpt's `HistogramCalibrator` collects linear bins, which do not work here: values beyond the first batch's maximum
add bins without limit, counts are float32 (a bin stops at 2^24), and E4M3 is a floating-point format. So we collect the
counts.

ModelOpt 0.47 offers three methods for activations in FP8: max; percentile, as its `HistogramCalibrator` defines it; and
MSE, for which we search as its `MseCalibrator` does, with its E4M3 rounding (that of `HistogramCalibrator` is called
with too few arguments). Entropy works on integer levels and fails for E4M3. Its searches take one histogram at a time,
on the processor: for hundreds of quantizers, many times in a run, they took as long as the GPU's work.

Import this module inside functions only: it subclasses ModelOpt's classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from modelopt.torch.quantization.tensor_quant import fp8_eager

from tasks.quantizing.counting_kernel import add_counts, usable
from tasks.quantizing.recipe import Mse, Percentile

_SHIFT = 16
_BINS = 1 << (31 - _SHIFT)
_INFINITY = 0x7F80_0000 >> _SHIFT
_PIECE = 1 << 22
"""Values that are counted at a time: their bin numbers take four bytes each."""
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


def amaxes(histograms: Mapping[str, ActivationHistogram], algorithm: Percentile | Mse) -> dict[str, torch.Tensor]:
    """The amax that the algorithm chooses from each histogram, at most its largest value: scalars, on the device.

    All histograms are evaluated at once, without waiting for the result. Those without values are left out.
    """
    found = {name: (one.counts, one.largest) for name, one in histograms.items() if one.counts is not None}
    if not found:
        return {}
    counts, largest = (torch.stack(parts) for parts in zip(*found.values(), strict=True))
    seen = counts[:, :_INFINITY].any(0)
    seen[0] = True  # for a histogram without finite values, whose percentile is then 0
    used = seen.nonzero()[:, 0]
    choose = partial(_percentile, algorithm.percentile) if isinstance(algorithm, Percentile) else _mse
    return dict(zip(found, choose(counts[:, used], used, largest), strict=True))


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


def _lower_edges(bins: torch.Tensor) -> torch.Tensor:
    return (bins << _SHIFT).int().view(torch.float32)


def _percentile(percentile: float, counts: torch.Tensor, bins: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """The lower edge of the percentile's bin: other values in this bin saturate by less than 0.8 %."""
    below = counts.cumsum(1) < percentile / 100 * counts.sum(1, keepdim=True, dtype=torch.float64)
    return _lower_edges(bins[below.sum(1)])


def _mse(counts: torch.Tensor, bins: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
    """The amax of the least squared error, of candidates at equal ratios from the maximum down to a sixteenth of it.

    Until values saturate, E4M3's error repeats with every power of two, so the position of the amax within its octave
    matters; ModelOpt's own search goes by equal steps.
    """
    centres = ((_lower_edges(bins).double() + _lower_edges(bins + 1)) / 2).float()
    last = (counts > 0).mul(torch.arange(len(bins), device=bins.device)).argmax(1, keepdim=True)
    # The last is exact, as an outlier alone in its bin decides the result.
    values = centres.repeat(len(counts), 1).scatter_(1, last, largest[:, None])
    steps = torch.arange(_OCTAVES * _PER_OCTAVE + 1, device=bins.device) / _PER_OCTAVE
    candidates = largest * 2.0 ** -steps[:, None]
    errors = [(counts * (values - fp8_eager(values, amax[:, None])).double() ** 2).sum(1) for amax in candidates]
    return candidates.gather(0, torch.stack(errors).argmin(0, keepdim=True))[0]
