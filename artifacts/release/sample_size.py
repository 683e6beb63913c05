"""How many samples are needed to tell whether a value is above or below a bound."""

from __future__ import annotations

import math
from statistics import NormalDist

POWER = 0.8
"""The probability with which the given number of samples settles it."""
_SURE = NormalDist().inv_cdf(0.975)
_POWERFUL = NormalDist().inv_cdf(POWER)


def samples_needed(samples: int, low: float, high: float, distance: float) -> int | None:
    """The number of samples with which the 95 % interval of a value excludes a bound at `distance` from the value.

    Assumes that further samples have the value and the spread that the first `samples` showed. If no sample differed,
    the interval shows the largest plausible spread, and fewer samples may do. The standard error s is the
    interval's width over 2 z(97.5 %); it falls with the square root of the number of samples, so the result is
    samples * ((z(97.5 %) + z(80 %)) s / distance)^2: for a difference of paired proportions, the sample size for
    McNemar's test (Miettinen 1968; Connor 1987, "Sample size for testing differences in proportions for the
    paired-sample design", Biometrics 43). None if the value is at the bound: no number would do.
    """
    if distance == 0:
        return None
    error = (high - low) / (2 * _SURE)
    return math.ceil(samples * ((_SURE + _POWERFUL) * error / distance) ** 2)
