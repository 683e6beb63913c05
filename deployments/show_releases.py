"""Lists of releases, and their figures over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from artifacts import format as words
from artifacts.gate_words import ORDER
from artifacts.history import Point
from artifacts.measurements import Measurement
from deployments.console import moment, plain_table, stdout

_HEADS = {
    "onnx fp16": "ONNX FP16",
    "onnx fp8": "ONNX FP8",
    "ratio": "FP8/FP16",
    "image cosine": "image cosine",
    "text cosine": "text cosine",
    "top1 fp16": "top-1 FP16",
    "top1 fp8": "top-1 FP8",
    "top1 difference": "change (95 %)",
    "recall@1_image_to_text fp16": "i2t R@1 FP16",
    "recall@1_image_to_text fp8": "i2t R@1 FP8",
    "recall@1_image_to_text difference": "change (95 %)",
    "recall@1_text_to_image fp16": "t2i R@1 FP16",
    "recall@1_text_to_image fp8": "t2i R@1 FP8",
    "recall@1_text_to_image difference": "change (95 %)",
    "speedup": "speed-up",
}


def print_releases(summaries: Sequence[Mapping[str, Any]]) -> None:
    """The list, in the order given: one line each."""
    columns = ("release", "created", "status", "gates", "recipe", ">size", ">FP8/FP16", ">speed-up", "aliases")
    table = plain_table(None, *columns)
    for item in summaries:
        table.add_row(
            item["ref"],
            moment(item["created"]),
            _status(item["status"]),
            ", ".join(f"{item['gates'][name]} {name}" for name in ORDER if name in item["gates"]),
            escape(item["recipe"]),
            words.megabytes(item["bytes"]),
            "-" if item["fp8_ratio"] is None else words.percent(item["fp8_ratio"]),
            "-" if item["speedup"] is None else f"{item['speedup']:.2f}x",
            ", ".join(item["aliases"]),
        )
    stdout().print(table if summaries else "no releases yet: run `clipsmith optimize demo`")


def print_history(points: Sequence[Point], table: Path, plot: Path) -> None:
    """The main figures of each release, oldest first, and where the rest is."""
    console = stdout()
    console.print(_figures(points))
    console.print(f"\nevery metric: {table}\nplot: {plot}", soft_wrap=True)


def history_document(model: str, points: Sequence[Point], table: Path, plot: Path) -> dict[str, Any]:
    """The same for programs; values in their units: bytes, fractions of 1."""
    releases = [
        {"ref": point.ref, "version": point.version, "created": point.created, "status": point.status}
        | {"figures": {name: _values(measurement) for name, measurement in point.figures.items()}}
        for point in points
    ]
    return {"model": model, "releases": releases, "table": str(table), "plot": str(plot)}


def _figures(points: Sequence[Point]) -> Table:
    names = [name for name in _HEADS if any(name in point.figures for point in points)]
    table = plain_table(None, "release", "created", "status", *(f">{_HEADS[name]}" for name in names))
    for point in points:
        cells = [_figure(point.figures.get(name)) for name in names]
        table.add_row(f"@{point.version}", moment(point.created), _status(point.status), *cells)
    return table


def _figure(measurement: Measurement | None) -> str:
    if measurement is None:
        return "-"
    if measurement.table == "accuracy":
        text = words.metric(measurement.metric, measurement.value)
        if measurement.metric.endswith("_difference") and measurement.low is not None and measurement.high is not None:
            text = f"{text.removesuffix(' points')} ({words.points_range(measurement.low, measurement.high, 2)})"
        return text
    return words.quantity(measurement.value, "ratio" if measurement.metric.endswith("speedup") else measurement.unit)


def _values(measurement: Measurement) -> dict[str, float | str | None]:
    names = ("value", "low", "high", "unit", "target")
    return {name: getattr(measurement, name) for name in names}


def _status(status: str) -> str:
    return f"[red]{status}[/]" if status == "rejected" else status
