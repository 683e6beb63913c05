"""The plot of a model's releases over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from artifacts.inert import visible
from artifacts.release.figures import Point
from artifacts.release.measurements import Measurement
from artifacts.report.canvas import FP_COLOURS, QUIET, Axes, paired

_SECOND = "#b45309"  # for a second curve of one precision
_MANY = 40  # releases: with as many, marks would hide the curve
_TASKS = {
    "top1": "zero-shot top-1",
    "recall@1_image_to_text": "image to text recall@1",
    "recall@1_text_to_image": "text to image recall@1",
}


class _Curve(NamedTuple):
    figure: str
    label: str
    colour: str


class _Panel(NamedTuple):
    """One panel; `base` is a value that its scale always shows: size 0, cosine 1, ratio 1."""

    title: str
    curves: tuple[_Curve, ...]
    scale: float = 1.0
    base: float | None = None


def history_plot(points: Sequence[Point]) -> str:
    """Sizes, agreement with FP32, the task's scores and the best measured speed-up of each release, as one SVG.

    Curves without any value are left out.
    """
    panels = [panel for panel in _panels() if any(_found(points, curve) for curve in panel.curves)]
    with paired(len(panels), 2.5, above=0.4) as (places, finish):
        for axes, panel in zip(places, panels, strict=False):
            _draw(axes, panel, points)
        if points:
            _explain(places[0].figure, points)
        if not panels:
            places[0].text(0.5, 0.5, "no release has a number to show", ha="center", color=QUIET)
        return finish()


def _explain(figure: Any, points: Sequence[Point]) -> None:
    notes = ["bars are 95 % intervals"] if any(m.low is not None for p in points for m in p.figures.values()) else []
    notes += ["hollow: rejected"] if any(point.status == "rejected" for point in points) else []
    figure.suptitle(visible(points[0].ref.partition("@")[0]), fontsize=11, fontweight="bold", x=0.01, ha="left")
    if notes:
        figure.supxlabel("; ".join(notes), fontsize=8, color=QUIET, x=0.01, ha="left")


def _panels() -> list[_Panel]:
    fp16, fp8 = FP_COLOURS["fp16"], FP_COLOURS["fp8"]
    found = [
        _Panel(
            "ONNX files of all encoders, MB",
            (_Curve("onnx fp16", "FP16", fp16), _Curve("onnx fp8", "FP8", fp8)),
            scale=1e-6,
            base=0.0,
        ),
        _Panel(
            "Mean cosine of FP8 and FP32 embeddings",
            (_Curve("image cosine", "image", fp8), _Curve("text cosine", "text", _SECOND)),
            base=1.0,
        ),
    ]
    for task, title in _TASKS.items():
        scores = (_Curve(f"{task} fp16", "FP16", fp16), _Curve(f"{task} fp8", "FP8", fp8))
        found.append(_Panel(f"{title[0].upper()}{title[1:]}, %", scores, scale=100.0))
        difference = (_Curve(f"{task} difference", "FP8", fp8),)
        found.append(_Panel(f"{title[0].upper()}{title[1:]}, FP8 less FP16, points", difference, scale=100.0, base=0.0))
    found.append(_Panel("Best measured speed-up, FP8 over FP16", (_Curve("speedup", "FP8", fp8),), base=1.0))
    return found


def _found(points: Sequence[Point], curve: _Curve) -> list[tuple[Point, Measurement]]:
    return [(point, point.figures[curve.figure]) for point in points if curve.figure in point.figures]


def _draw(axes: Axes, panel: _Panel, points: Sequence[Point]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(panel.title)
    for curve in panel.curves:
        found = _found(points, curve)
        if found:
            _draw_curve(axes, curve, found, panel.scale)
    if panel.base is not None:
        axes.axhline(panel.base, color=QUIET, linewidth=0.8, linestyle=":")
    if len(panel.curves) > 1:
        axes.legend(loc="best", fontsize=8, ncols=len(panel.curves))
    first, last = points[0].version, points[-1].version
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.margins(y=0.15)
    axes.set_xlabel("version")


def _draw_curve(axes: Axes, curve: _Curve, found: Sequence[tuple[Point, Measurement]], scale: float) -> None:
    few = len(found) < _MANY
    xs = [point.version for point, _ in found]
    ys = [measurement.value * scale for _, measurement in found]
    axes.plot(xs, ys, color=curve.colour, label=curve.label, marker="o" if few else None, markersize=4, linewidth=1.2)
    for point, measurement in found:
        if measurement.low is not None and measurement.high is not None:
            ends = (measurement.low * scale, measurement.high * scale)
            axes.vlines(point.version, *ends, color=curve.colour, linewidth=1, alpha=0.45)
        if point.status == "rejected":
            hollow = {"markerfacecolor": "#ffffff", "markeredgecolor": curve.colour, "markersize": 6, "zorder": 3}
            axes.plot(point.version, measurement.value * scale, "o", **hollow)
