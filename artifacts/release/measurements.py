"""Every number in a release's tables as one long list, so that releases can be compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from artifacts.manifest import Row
from artifacts.number_words import RATES
from artifacts.schema import SCHEMAS, Column, Table, Tables, number

GROUPS = ("encoder", "target", "precision", "reference")
_ABOUT = {
    "parity": ("sample",),
    "coverage": ("module", "kind"),
    "latency": ("batch",),
    "calibration": ("method",),
    "sufficiency": ("samples",),
    "stages": ("step",),
}
"""Columns that, together with `GROUPS`, identify a row."""
_ENDS = ("low", "high")


@dataclass(frozen=True)
class Measurement:
    """One number. `metric` names the column and what else identifies it: `batch 8 median_ms`.

    `low` and `high` are the ends of its 95 % interval where there is one; `unit` is empty for counts.
    """

    table: str
    encoder: str | None
    target: str | None
    precision: str | None
    reference: str | None
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""

    @property
    def key(self) -> tuple[str | None, ...]:
        """What identifies this number, the same in every release."""
        return (self.table, self.encoder, self.target, self.precision, self.reference, self.metric)


def measurements(tables: Tables) -> Iterator[Measurement]:
    """Every number of every table, in the tables' order; values that are missing are left out."""
    for name, schema in SCHEMAS.items():
        for row in tables.get(name, ()):
            if name != "accuracy":
                yield from _counted(schema, row)
            elif (value := number(row, "value")) is not None:
                metric = str(row["metric"])
                yield _measurement("accuracy", row, "value", value, metric, _unit_of(metric))


def texts(tables: Tables) -> Iterator[tuple[str, str, str | None]]:
    """(table, name, text) of every cell that holds text: states, notes, precisions, nodes."""
    for name, schema in SCHEMAS.items():
        for row in tables.get(name, ()):
            about = [each for each in (*GROUPS, *_ABOUT.get(name, ())) if row.get(each) is not None]
            subject = " ".join(_part(each, row) for each in about)
            for column in _values(schema):
                if column.kind == "str":
                    value = row.get(column.name)
                    yield name, f"{subject} {column.name}", None if value is None else str(value)


def _counted(schema: Table, row: Row) -> Iterator[Measurement]:
    about = " ".join(_part(name, row) for name in _ABOUT.get(schema.name, ()))
    for column in _values(schema):
        value = None if column.kind == "str" else number(row, column.name)
        if value is not None and not column.name.endswith(_ENDS):
            yield _measurement(schema.name, row, column.name, value, f"{about} {column.name}".strip(), column.unit)


def _measurement(table: str, row: Row, column: str, value: float, metric: str, unit: str) -> Measurement:
    encoder, target, precision, reference = (None if row.get(name) is None else str(row[name]) for name in GROUPS)
    low, high = (number(row, end if column == "value" else f"{column}_{end}") for end in _ENDS)
    return Measurement(table, encoder, target, precision, reference, metric, value, low, high, unit)


def _values(schema: Table) -> list[Column]:
    """The columns that hold results, not those that identify a row."""
    about = (*GROUPS, *_ABOUT.get(schema.name, ()), *(("metric",) if schema.name == "accuracy" else ()))
    return [column for column in schema.columns if column.name not in about]


def _part(name: str, row: Row) -> str:
    return f"batch {row[name]}" if name == "batch" else str(row[name])


def _unit_of(metric: str) -> str:
    """Rates and their differences are fractions of 1; the signal-to-noise ratio is in dB; the rest has no unit."""
    if re.match(RATES, metric) and not metric.endswith("_mcnemar_p"):
        return "fraction"
    return "dB" if metric == "snr_db" else ""
