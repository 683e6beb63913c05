"""What differs between two releases: their provenance, their files, and every number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from artifacts.manifest import DataSource, GateResult, Manifest
from artifacts.release.measurements import Measurement, measurements, texts

INPUTS = ("checkpoint", "recipe", "calibration", "evaluation", "parameters", "packages", "device", "code")
"""The sections of what a release was made from; the others are what came of it."""
SCALAR = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Change:
    """One property that differs; None on a side that does not have it."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class MetricChange:
    """One number that differs, with its interval; None on a side that does not have it."""

    before: Measurement | None
    after: Measurement | None

    @property
    def about(self) -> Measurement:
        """The measurement of a side that has one, for its metric, encoder and so on, which both share."""
        known = self.after or self.before
        assert known is not None
        return known

    @property
    def change(self) -> float | None:
        """After minus before, in the metric's unit."""
        return None if self.before is None or self.after is None else self.after.value - self.before.value

    def document(self) -> dict[str, Any]:
        """The same as JSON values."""
        ends = ("value", "low", "high")
        sides = {
            name: None if side is None else {end: getattr(side, end) for end in ends}
            for name, side in (("before", self.before), ("after", self.after))
        }
        about = {name: value for name, value in asdict(self.about).items() if name not in ends}
        return about | sides | {"change": self.change}


@dataclass(frozen=True)
class Comparison:
    """`sections` hold the differences by subject (only subjects with differences); `metrics` hold the numbers."""

    before: str
    after: str
    sections: Mapping[str, tuple[Change, ...]]
    metrics: tuple[MetricChange, ...]

    def document(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "before": self.before,
            "after": self.after,
            "changes": {name: [asdict(change) for change in changes] for name, changes in self.sections.items()},
            "metrics": [metric.document() for metric in self.metrics],
        }


def compare(before: Manifest, after: Manifest) -> Comparison:
    """What differs between two releases; equal values are left out."""
    left, right = _subjects(before), _subjects(after)
    found = {name: _changes(left[name], right[name]) for name in left}
    old, new = ({m.key: m for m in measurements(manifest.tables)} for manifest in (before, after))
    metrics = (MetricChange(old.get(key), new.get(key)) for key in _in_order(old, new))
    return Comparison(
        before=before.ref,
        after=after.ref,
        sections={name: changes for name, changes in found.items() if changes},
        metrics=tuple(metric for metric in metrics if metric.before != metric.after),
    )


def _subjects(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Everything but the numbers: flat mappings by subject, the most asked for first."""
    provenance = manifest.provenance
    recipe = {"name": provenance.recipe, "digest": provenance.recipe_digest, "content": provenance.recipe_content}
    cells: dict[str, dict[str, Any]] = {"graph": {}, "tables": {}}
    for table, about, text in texts(manifest.tables):
        subject, name = ("graph", about) if table == "coverage" else ("tables", f"{table}: {about}")
        cells[subject][name] = text
    return {
        "checkpoint": _flat(provenance.source.model_dump(mode="json")),
        "recipe": _flat(recipe),
        "calibration": _data(provenance.calibration),
        "evaluation": _data(provenance.evaluation),
        "parameters": _flat(provenance.parameters),
        "packages": dict(provenance.packages),
        "device": dict(provenance.device),
        "code": {"version": provenance.code, "parents": ", ".join(provenance.parents) or None},
        "gates": {_gate(result): result.status for result in manifest.gates},
        **cells,
        "files": {file.path: {"sha256": file.sha256, "size": file.size} for file in manifest.files},
    }


def _gate(result: GateResult) -> str:
    parts = (result.name, result.metric, result.encoder, result.target, result.reference)
    return " ".join(part for part in parts if part)


def _data(source: DataSource | None) -> dict[str, Any]:
    return {} if source is None else source.model_dump(mode="json")


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_leaves("", value))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The scalars of a JSON value by their path; a list of scalars counts as one scalar."""
    match value:
        case dict() if value:
            for key, item in value.items():
                yield from _leaves(f"{name}.{key}" if name else str(key), item)
        case list() if not all(isinstance(item, SCALAR) for item in value):
            for index, item in enumerate(value):
                yield from _leaves(f"{name}[{index}]", item)
        case _:
            yield name, value


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    pairs = ((name, before.get(name), after.get(name)) for name in _in_order(before, after))
    return tuple(Change(name, left, right) for name, left, right in pairs if left != right)


def _in_order(before: Iterable[Any], after: Iterable[Any]) -> list[Any]:
    """The keys of both: those of the first in its order, then those that only the second has."""
    return list(dict.fromkeys([*before, *after]))
