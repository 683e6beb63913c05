"""Printing lists of releases, and their figures over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifacts import number_words as words
from artifacts.nearest import meant, nearest
from artifacts.release.figures import Point
from artifacts.release.measurements import Measurement
from artifacts.report.gate_words import ORDER
from deployments.printing.console import Terminal, is_wide, paragraph, print_list, stdout

_HEADS = {
    "onnx fp16": "ONNX\nFP16, MB",
    "onnx fp8": "ONNX\nFP8, MB",
    "ratio": "FP8/\nFP16",
    "image cosine": "image\ncosine",
    "text cosine": "text\ncosine",
    "top1 fp16": "top-1\nFP16",
    "top1 fp8": "top-1\nFP8",
    "top1 difference": "change,\npoints",
    "recall@1_image_to_text fp16": "i2t R@1\nFP16",
    "recall@1_image_to_text fp8": "i2t R@1\nFP8",
    "recall@1_image_to_text difference": "change,\npoints",
    "recall@1_text_to_image fp16": "t2i R@1\nFP16",
    "recall@1_text_to_image fp8": "t2i R@1\nFP8",
    "recall@1_text_to_image difference": "change,\npoints",
    "speedup": "speed-\nup",
}


def print_releases(
    summaries: Sequence[Mapping[str, Any]], model: str | None = None, models: Iterable[str] = ()
) -> None:
    """The list, in the order given, one line each; a narrow terminal has days, counts and no recipes.

    Where there is none of `model`, the `models` that there are releases of are named.
    """
    console = stdout()
    wide = is_wide(console)
    if not summaries:
        names = list(dict.fromkeys(models))
        if model is None or not names:
            paragraph(console, "no releases yet: run `clipsmith optimize demo`", indent=0)
        else:
            there = f"{meant(nearest(model, names))}There are releases of: {', '.join(names)}"
            paragraph(console, f"no release of {model}. {there[:1].upper()}{there[1:]}", indent=0)
        return
    heads = ("release", "created", "status", "gates", ">size", ">FP8/\nFP16", ">speed-\nup", "aliases")
    rows = [
        (
            item["ref"],
            words.moment(item["created"]) if wide else item["created"][:10],
            item["status"],
            _gates(item["gates"], wide),
            words.megabytes(item["bytes"]),
            "-" if item["fp8_ratio"] is None else words.percent(item["fp8_ratio"]),
            words.given(item["speedup"], "{:.2f}x"),
            ", ".join(item["aliases"]),
            *((item["recipe"],) if wide else ()),
        )
        for item in summaries
    ]
    print_list(console, (*heads, *(("recipe",) if wide else ())), rows)


def _gates(counts: Mapping[str, int], wide: bool) -> str:
    """`1 failed, 2 passed`, or in short the number of passed gates out of all."""
    if not counts:
        return ""
    if not wide:
        return f"{counts.get('passed', 0)}/{sum(counts.values())}"
    return ", ".join(f"{counts[name]} {name}" for name in ORDER if name in counts)


def print_history(model: str, points: Sequence[Point], table: Path, plot: Path) -> None:
    """Print the main figures of each release, oldest first, and the paths of the files with all numbers."""
    console = stdout()
    console.say((model, "bold"))
    _print_figures(console, points, wide=is_wide(console))
    console.print()
    console.say(f"every metric: {table}")
    console.say(f"plot: {plot}")


def history_document(model: str, points: Sequence[Point], table: Path, plot: Path) -> dict[str, Any]:
    """The same as JSON values, in their units: bytes, fractions of 1."""
    releases = [
        {"ref": point.ref, "version": point.version, "created": point.created, "status": point.status}
        | {"figures": {name: _values(measurement) for name, measurement in point.figures.items()}}
        for point in points
    ]
    return {"model": model, "releases": releases, "table": str(table), "plot": str(plot)}


def _print_figures(console: Terminal, points: Sequence[Point], *, wide: bool) -> None:
    """Print the figures; with `wide`, also FP16's, and the 95 % intervals of differences."""
    known = [name for name in _HEADS if any(name in point.figures for point in points)]
    names = [name for name in known if wide or not name.endswith(" fp16")]
    rows = [
        (
            f"@{point.version}",
            point.created[:10],
            point.status,
            *(_figure(point.figures.get(name), wide) for name in names),
        )
        for point in points
    ]
    heads = ("release", "created", "status", *(f">{_HEADS[name]}" for name in names))
    print_list(console, heads, rows, gap=2 if wide else 1)


def _figure(measurement: Measurement | None, ends: bool) -> str:
    """The number as short as possible, without its unit, which is in the heading."""
    if measurement is None:
        return "-"
    low, high = measurement.low, measurement.high
    if measurement.table == "latency":
        return f"{measurement.value:.2f}x"
    text = words.megabytes(measurement.value) if measurement.unit == "bytes" else _accuracy(measurement)
    text = text.removesuffix(" MB").removesuffix(" points")
    if ends and measurement.metric.endswith("_difference") and low is not None and high is not None:
        return f"{text} ({words.points_range(low, high, 2)})"
    return text


def _accuracy(measurement: Measurement) -> str:
    if measurement.table == "accuracy":
        return words.metric(measurement.metric, measurement.value)
    return words.quantity(measurement.value, measurement.unit)


def _values(measurement: Measurement) -> dict[str, float | str | None]:
    names = ("value", "low", "high", "unit", "target")
    return {name: getattr(measurement, name) for name in names}
