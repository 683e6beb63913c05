"""The precision to run a release in, for one runtime: the one that the release measured as fastest there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import geometric_mean

from artifacts.manifest import Manifest, Precision
from artifacts.schema import EMULATED, MEASURED, number

ONNX_RUNTIME = "onnxruntime"
"""The target that a release's graphs themselves are for."""
PRECISIONS: tuple[Precision, ...] = ("fp8", "fp16")
"""If nothing was measured, the first is chosen: its files are smaller."""


@dataclass(frozen=True)
class Choice:
    """A precision for a target, and why; `str` of it is one line."""

    target: str
    precision: Precision
    reason: str

    def __str__(self) -> str:
        return f"{self.precision} on {self.target}: {self.reason}"


def fastest(manifest: Manifest, target: str, had: Sequence[Precision]) -> Choice:
    """Choose among the precisions that the release has for `target`.

    Speeds are compared by the geometric mean, over the encoders and batch sizes that were timed in both precisions, of
    the ratio of their median latencies. Latencies of emulated precisions count: they are what a user waits for.
    """
    if len(had) == 1:
        return Choice(target, had[0], "the release has no other precision there")
    medians = {precision: _medians(manifest, target, precision) for precision in PRECISIONS}
    timed = medians["fp8"].keys() & medians["fp16"].keys()
    if not timed:
        return Choice(target, PRECISIONS[0], "the default, as the release has no latency of both there")
    means = {name: geometric_mean(found[key] for key in timed) for name, found in medians.items()}
    first, other = sorted(PRECISIONS, key=lambda precision: means[precision])
    times = f"{means[other] / means[first]:.2f} times as fast as {other}"
    return Choice(target, first, f"{times} (its latency table, geometric mean of {len(timed)} rows)")


def choices(manifest: Manifest) -> list[Choice]:
    """The precision to run, for every target with engines in the release, and for ONNX Runtime, which needs none."""
    had: dict[str, set[str | None]] = {}
    for file in manifest.files:
        if file.kind in ("engine", "onnx"):
            had.setdefault(file.target or ONNX_RUNTIME, set()).add(file.precision)
    known = {target: [each for each in PRECISIONS if each in names] for target, names in had.items()}
    return [fastest(manifest, target, names) for target, names in sorted(known.items()) if names]


def _medians(manifest: Manifest, target: str, precision: Precision) -> dict[tuple[str, str], float]:
    """Median latencies in ms by (encoder, batch), without rows that are invalid or were not run."""
    found = {}
    for row in manifest.tables.get("latency", ()):
        median = number(row, "median_ms")
        told = (row["target"], row["precision"]) == (target, precision) and row["status"] in (MEASURED, EMULATED)
        if told and median is not None and median > 0:
            found[str(row["encoder"]), str(row["batch"])] = median
    return found
