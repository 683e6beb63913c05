"""What clipsmith promises of its export, and whether a run kept it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.benchmarks.measure import Series
from tests.benchmarks.scaling import Scale


@dataclass(frozen=True)
class Target:
    """A measured value and the most that it may be; `unit` is one of `ratio`, `%`, `MB` and `s`."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the promise was kept."""
        return self.value <= self.limit


def judge(series: Mapping[str, Series], sizes: Mapping[str, int], scales: list[Scale]) -> list[Target]:
    """Every target whose measurements are there."""
    return [*_against_recipe(series), *_sizes(sizes), *_scaling(scales)]


def _against_recipe(series: Mapping[str, Series]) -> list[Target]:
    recipe, ours, kept = (series.get(name) for name in ("published recipe", "clipsmith", "kept skeleton"))
    targets = []
    if recipe and ours:
        targets.append(Target("wall time, of the recipe's", ours.wall_s / recipe.wall_s, 0.20, "ratio"))
        targets.append(Target("peak memory, of the recipe's", ours.peak_mb / recipe.peak_mb, 0.12, "ratio"))
    if recipe and kept:
        targets.append(Target("kept skeleton: wall time", kept.wall_s / recipe.wall_s, 0.10, "ratio"))
    return targets


def _sizes(sizes: Mapping[str, int]) -> list[Target]:
    promised = (("image", "fp8", -49.4), ("text", "fp8-compact", -49.0))
    return [
        Target(f"{encoder}, {name} file against FP16", change(sizes, encoder, name), limit, "%")
        for encoder, name, limit in promised
        if f"{encoder} {name}" in sizes
    ]


def _scaling(scales: list[Scale]) -> list[Target]:
    growth = []
    if len(scales) > 1:
        first, last = scales[0], scales[-1]
        name = f"{first.label} to {last.label}: growth of wall time, of the parameters'"
        parameters = last.parameters / first.parameters
        growth = [Target(name, last.cost.wall_s / first.cost.wall_s / parameters, 1.0, "ratio")]
    return growth + [
        Target(f"{scale.label}: peak memory of the export", scale.cost.peak_mb, 1000.0, "MB")
        for scale in scales
        if scale.engine is not None
    ]


def change(sizes: Mapping[str, int], encoder: str, name: str) -> float:
    """How much smaller (negative) a file is than the encoder's FP16 file, in percent."""
    return (sizes[f"{encoder} {name}"] / sizes[f"{encoder} fp16"] - 1) * 100
