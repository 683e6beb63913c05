"""Is a new release worse than the model's last ones? A rule that tells noise from drift, figure by figure.

A release is compared with the last comparable ones: accepted, and of the same recipe, image size, encoder, precision
and target; for accuracy also of the same evaluation set, for times of the same machine, and latencies only if they were
really measured. Three signs count, each only if it is also large enough to matter (`_Kind.least`):

- one value far outside: beyond the median by many times the scaled median absolute deviation (the robust z-score of
  Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993), with a floor, as many histories are constant;
- the last three values all outside by less: a step that is there to stay, as in the Western Electric run rules;
- a trend over the whole window: Mann-Kendall's test (Mann 1945, Kendall 1975), which no kind of noise misleads, and
  the slope of Theil and Sen (1968) for its size.

The limits are wider than those sources' because a release has many figures, a window few values, and timings heavy
tails; `tests/artifacts/release/test_regression.py` measures what they find and how often they cry wolf.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from artifacts.manifest import Manifest, Row
from artifacts.number_words import RATES, megabytes, points
from artifacts.release.measurements import Measurement
from artifacts.schema import MEASURED, number

Verdict = Literal["steady", "regression", "drift", "improved", "too few"]
WINDOW = 10
FEWEST = 6
"""With fewer comparable releases nothing is judged: they do not show what is usual."""
_WIDE, _NARROW = 12.0, 3.0
"""By how many deviations a single value, or each of the last three, may be off, given `WINDOW` earlier values."""
_LASTING = 3
_SIGNIFICANT = 0.001
_MAD_TO_SIGMA = 1.4826  # for normal noise


@dataclass(frozen=True)
class Finding:
    """The judgement of one figure. `typical` is the median of the `n` releases it was compared with, and `limit` the
    value beyond which a single value is a regression; both are None if there were too few releases."""

    figure: str
    value: float
    typical: float | None
    limit: float | None
    unit: str
    verdict: Verdict
    n: int

    @property
    def alarming(self) -> bool:
        """Whether somebody should look at it."""
        return self.verdict in ("regression", "drift")


@dataclass(frozen=True)
class _Kind:
    """How figures of one kind behave.

    `worse` is 1 if a larger value is worse, else -1. `floor` is the least deviation assumed, and `least` the smallest
    difference worth reporting, both as fractions of the typical value when `relative`. `slack` is a difference, in the
    figure's unit, that never counts.
    """

    unit: str
    worse: Literal[1, -1]
    floor: float
    least: float
    relative: bool
    slack: float = 0.0

    @property
    def timed(self) -> bool:
        """Whether it is a time: two real measurements of a time never give the same value."""
        return self.unit in ("s", "ms")


_COSINE = _Kind("", -1, floor=5e-5, least=1e-3, relative=False)
_TASK = _Kind("fraction", -1, floor=3e-4, least=4e-3, relative=False)
_SIZE = _Kind("bytes", 1, floor=8e-4, least=0.01, relative=True)
_BUILD = _Kind("s", 1, floor=0.02, least=0.1, relative=True, slack=2.0)
_LATENCY = _Kind("ms", 1, floor=0.02, least=0.1, relative=True, slack=0.05)
_SPEEDUP = _Kind("ratio", -1, floor=0.02, least=0.05, relative=True)
_BROKEN = _Kind("", 1, floor=0.0, least=1.0, relative=False)
_SAMPLES_THAT_MATTER = 3


@dataclass(frozen=True)
class _Reading:
    """One figure of one release; `slack` as in `_Kind`."""

    kind: _Kind
    value: float
    slack: float


_Key = tuple[str, str]
"""A figure's name, and the circumstances that must be equal for two values to be comparable."""


def findings(history: Sequence[Manifest], new: Manifest, k: int = WINDOW) -> list[Finding]:
    """Compare every figure of `new` with the last `k` comparable releases of its model in `history` (in any order)."""
    before: defaultdict[_Key, list[float]] = defaultdict(list)
    for manifest in sorted(history, key=lambda manifest: manifest.version):
        if manifest.model == new.model and manifest.version < new.version and not manifest.rejected:
            for key, reading in _readings(manifest).items():
                before[key].append(reading.value)
    return [_judge(key[0], reading, before[key], k) for key, reading in _readings(new).items()]


def sentence(finding: Finding) -> str:
    """A finding in words: `build time on onnxruntime: 61 s, regression: typically 40 s, at most 50 s (10 releases)`."""
    start = f"{finding.figure}: {_shown(finding.value, finding.unit)}"
    if finding.typical is None or finding.limit is None:
        return f"{start}, too few comparable releases to judge ({finding.n})"
    bound = "at most" if finding.limit > finding.typical else "at least"
    words = f"typically {_shown(finding.typical, finding.unit)}, {bound} {_shown(finding.limit, finding.unit)}"
    return f"{start}, {finding.verdict}: {words} ({finding.n} releases)"


def times_worse(before: Measurement, after: Measurement) -> float | None:
    """How many times the least difference worth a word a number is worse than it was; negative where it is better.

    0 where each of the two lies in the other's 95 % interval. None of numbers that are nobody's aim: what a run cost,
    how a module was scaled, or how unlikely a difference is.
    """
    kind = _kind_of(after)
    if kind is None:
        return None
    if _inside(before.value, after) and _inside(after.value, before):
        return 0.0
    least = max(kind.least * (abs(before.value) if kind.relative else 1.0), kind.slack)
    worse = kind.worse * (after.value - before.value)
    return worse / least if least else worse


def is_aim(measurement: Measurement) -> bool:
    """Whether `times_worse` knows which way such a number gets worse."""
    return _kind_of(measurement) is not None


def _kind_of(of: Measurement) -> _Kind | None:
    match of.table:
        case "accuracy" if of.metric == "nonfinite":
            return _BROKEN
        case "accuracy" if of.metric.startswith(("cosine_", "rank_agreement")):
            return _COSINE
        case "accuracy" if re.match(RATES, of.metric) and not of.metric.endswith("_mcnemar_p"):
            return _TASK
        case "sizes" if of.metric == "bytes":
            return _SIZE
        case "latency" if of.metric.endswith(" median_ms"):
            return _LATENCY
        case "latency" if of.metric.endswith(" speedup"):
            return _SPEEDUP
    return None


def _inside(value: float, of: Measurement) -> bool:
    return of.low is not None and of.high is not None and of.low <= value <= of.high


def _shown(value: float, unit: str) -> str:
    if unit == "bytes":
        return megabytes(value, 2)
    return points(value, 2) if unit == "fraction" else f"{value:.5g} {unit}".strip()


# --- the rule ----------------------------------------------------------------------------------------------------


def _judge(figure: str, reading: _Reading, before: Sequence[float], k: int) -> Finding:
    kind, value = reading.kind, reading.value
    # A cached step reports its old time again: equal times are one measurement, so each counts once.
    known = [x for x in dict.fromkeys(before) if x != value] if kind.timed else list(before)
    window = known[-k:]
    if len(window) < FEWEST:
        return Finding(figure, value, None, None, kind.unit, "too few", len(window))
    typical, allowed = median(window), _allowed(reading, window, _WIDE)
    limit = typical + kind.worse * allowed
    return Finding(figure, value, typical, limit, kind.unit, _verdict(reading, window, allowed), len(window))


def _verdict(reading: _Reading, window: Sequence[float], allowed: float) -> Verdict:
    worse = reading.kind.worse * (reading.value - median(window))
    if worse > allowed:
        return "regression"
    if worse < -allowed:
        return "improved"
    return "drift" if worse > 0 and (_is_lasting(reading, window) or _is_trend(reading, window)) else "steady"


def _is_lasting(reading: _Reading, window: Sequence[float]) -> bool:
    """Whether the last three values, this one included, are all worse than the values before them."""
    earlier, last = window[: 1 - _LASTING], [*window[1 - _LASTING :], reading.value]
    if len(earlier) < FEWEST:
        return False
    usual = median(earlier)
    return min(reading.kind.worse * (x - usual) for x in last) > _allowed(reading, earlier, _NARROW)


def _is_trend(reading: _Reading, window: Sequence[float]) -> bool:
    """Whether the figure gets worse from release to release, by enough over the window."""
    from scipy.stats import kendalltau, theilslopes

    values = [reading.kind.worse * x for x in (*window, reading.value)]
    place = range(len(values))
    if float(kendalltau(place, values, alternative="greater").pvalue) >= _SIGNIFICANT:
        return False
    return float(theilslopes(values, place).slope) * len(window) > _least(reading, window)


def _allowed(reading: _Reading, window: Sequence[float], deviations: float) -> float:
    """How much worse than the median a value may be as noise; more in a short window, whose estimate is uncertain."""
    typical = median(window)
    unit = abs(typical) if reading.kind.relative else 1.0
    noise = max(_MAD_TO_SIGMA * median(abs(x - typical) for x in window), reading.kind.floor * unit)
    return max(deviations * max(1.0, WINDOW / len(window)) * noise, _least(reading, window))


def _least(reading: _Reading, window: Sequence[float]) -> float:
    unit = abs(median(window)) if reading.kind.relative else 1.0
    return max(reading.kind.least * unit, reading.slack)


# --- the figures -------------------------------------------------------------------------------------------------


def _readings(manifest: Manifest) -> dict[_Key, _Reading]:
    found = (*_accuracy(manifest), *_sizes(manifest), *_builds(manifest), *_latencies(manifest))
    provenance = manifest.provenance
    made = f"{provenance.recipe} {provenance.parameters.get('image_size')}"
    return {(figure, f"{made} {circumstances}"): reading for figure, circumstances, reading in found}


_Found = Iterator[tuple[str, str, _Reading]]


def _accuracy(manifest: Manifest) -> _Found:
    """FP8's mean cosines, and what the task loses against FP16 and FP32."""
    data = manifest.provenance.evaluation.digest
    for row in manifest.tables.get("accuracy", ()):
        value, metric = number(row, "value"), str(row["metric"])
        if value is None or row["precision"] != "fp8":
            continue
        if metric == "cosine_mean":
            name = f"cosine of {_words(row, 'encoder', 'precision')} with {row['reference']} on {row['target']}"
            yield name, data, _Reading(_COSINE, value, 0.0)
        elif metric.endswith("_difference"):
            # A difference of one picture is never a finding, however few pictures there are.
            slack = _SAMPLES_THAT_MATTER / max(number(row, "samples") or 1.0, 1.0)
            name = f"{metric.removesuffix('_difference')} of fp8 against {row['reference']} on {row['target']}"
            yield name, data, _Reading(_TASK, value, slack)


def _sizes(manifest: Manifest) -> _Found:
    for row in manifest.tables.get("sizes", ()):
        value = number(row, "bytes")
        if value is not None:
            yield f"size of {_words(row, 'encoder', 'precision', 'target')}", "", _Reading(_SIZE, value, 0.0)


def _builds(manifest: Manifest) -> _Found:
    """All engines of a target together, when the same ones were built."""
    parts: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for row in manifest.tables.get("stages", ()):
        value = number(row, "wall_s")
        if row["step"] == "build" and value is not None:
            parts[str(row["target"])][_words(row, "encoder", "precision")] = value
    for target, times in parts.items():
        circumstances = f"{sorted(times)} {_machine(manifest)}"
        yield f"build time on {target}", circumstances, _Reading(_BUILD, sum(times.values()), _BUILD.slack)


def _latencies(manifest: Manifest) -> _Found:
    """Median latencies of valid rows on hardware for the precision: neither emulated nor disturbed."""
    for row in manifest.tables.get("latency", ()):
        value = number(row, "median_ms")
        if row["status"] == MEASURED and value is not None:
            name = f"latency of {_words(row, 'encoder', 'precision', 'target')}, batch {row['batch']}"
            circumstances = f"{row['device']} {_machine(manifest)}"
            yield name, circumstances, _Reading(_LATENCY, value, _LATENCY.slack)


def _words(row: Row, *columns: str) -> str:
    return " ".join(str(row[column]) for column in columns)


def _machine(manifest: Manifest) -> str:
    """What times depend on: the machine, and the batch sizes that engines are built for."""
    provenance = manifest.provenance
    about = {"device": provenance.device, "profile": provenance.parameters.get("profile")}
    return json.dumps(about, sort_keys=True)
