"""The report's plots. Each returns an image as a `data:` URI, or None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from artifacts.manifest import Cell, Row
from artifacts.number_words import megabytes, percent
from artifacts.release.evidence import Series, parse_key
from artifacts.report.canvas import FP_COLOURS, INK, OTHER, QUIET, Axes, as_uri, canvas, paired, shown
from artifacts.schema import EMULATED, number

_PERFECT = 1e-8  # a cosine closer to 1 than this differs from 1 by rounding only
_BAND = (0.05, 0.95)
_LINE_HEIGHT = 0.3
_LONGEST = 44  # characters of a label; more would leave no room for the plot


@shown
def sizes_plot(sizes: Sequence[Row]) -> str | None:
    """FP16 and FP8 bars per encoder and target."""
    groups: dict[tuple[Cell, Cell], dict[str, float]] = {}
    for row in sizes:
        size = number(row, "bytes")
        if size is not None:
            groups.setdefault((row["encoder"], row["target"]), {})[str(row["precision"])] = size
    if not groups:
        return None
    with canvas(0.75 + 2.1 * _LINE_HEIGHT * len(groups)) as ([[axes]], finish):
        largest = max(size for group in groups.values() for size in group.values())
        for line, group in enumerate(groups.values()):
            for precision, size in group.items():
                y = line + (0.19 if precision == "fp8" else -0.19)
                axes.barh(y, size / 1e6, height=0.36, color=FP_COLOURS.get(precision, OTHER))
                note = megabytes(size)
                if precision == "fp8" and group.get("fp16"):
                    note += f"  ({percent(size / group['fp16'], 0)} of FP16)"
                axes.text((size + largest / 120) / 1e6, y, note, va="center", color=INK, fontsize=8.5)
        _lines(axes, [f"{encoder}, {target}" for encoder, target in groups])
        axes.set_xlim(0, largest / 1e6 * 1.2)
        axes.set_xlabel("MB")
        _legend(axes, [name for name in ("fp16", "fp8") if any(name in group for group in groups.values())])
        return finish()


@shown
def latency_plot(latencies: Mapping[str, Sequence[float]], table: Sequence[Row]) -> str | None:
    """A box per engine; a panel per encoder and batch size, so that only comparable boxes share a panel."""
    panels: dict[tuple[str, int | None], dict[str, tuple[Series, Sequence[float]]]] = {}
    for key, values in latencies.items():
        series = parse_key(key)
        if values:
            label = f"{series.precision.upper()}, {series.target}{_emulated(series, table)}"
            panels.setdefault((series.encoder, series.batch), {})[label] = (series, values)
    if not panels:
        return None
    tallest = max(map(len, panels.values()))
    with paired(len(panels), 0.8 + _LINE_HEIGHT * tallest) as (places, finish):
        for axes, ((encoder, batch), boxes) in zip(places, panels.items(), strict=False):
            axes.set_title(f"{encoder}, batch {batch}")
            _boxes(axes, boxes)
        return as_uri(finish())


@shown
def cosine_plot(cosines: Mapping[str, Sequence[float]]) -> str | None:
    """Sorted cosines per encoder, on a logarithmic scale of 1 - cosine: each step up is ten times less error."""
    panels: dict[str, dict[str, tuple[Series, Sequence[float]]]] = {}
    for key, values in cosines.items():
        series = parse_key(key)
        if values:
            label = f"{series.precision.upper()}, {series.target}"
            panels.setdefault(series.encoder, {})[label] = (series, values)
    if not panels:
        return None
    with canvas(3.0, 1, len(panels), sharey=True) as ([places], finish):
        for axes, (encoder, curves) in zip(places, panels.items(), strict=True):
            axes.set_title(f"{encoder} embeddings")
            for index, (label, (series, values)) in enumerate(curves.items()):
                _nines_curve(axes, label, series.precision, values, index)
            axes.set_xlabel("% of samples, worst first")
            axes.set_xlim(0, 100)
            axes.legend(loc="best", fontsize=8)
        places[0].set_ylabel("cosine with FP32")
        _nines_axis(places[0])
        return finish()


@shown
def convergence_plot(rows: Sequence[Row]) -> str | None:
    """Running amax divided by its final value, over calibration samples: median and band of all quantizers."""
    import pandas

    frame = pandas.DataFrame(
        [{name: row[name] for name in ("quantizer", "samples", "amax")} for row in rows if number(row, "amax")]
    )
    if frame.empty:
        return None
    last = frame.sort_values("samples").groupby("quantizer")["amax"].transform("last")
    shares = (frame["amax"] / last).groupby(frame["samples"])
    slowest, low, median, high = (shares.quantile(share) for share in (0.0, _BAND[0], 0.5, _BAND[1]))
    top = max(1.0, float(high.max()))  # an amax by percentile may fall, so a value may be above the final one
    with canvas(2.7) as ([[axes]], finish):
        axes.axhline(1, color=QUIET, linewidth=0.8, linestyle=":")
        blue, label = FP_COLOURS["fp8"], f"{percent(_BAND[0], 0)} to {percent(_BAND[1], 0)} of quantizers"
        axes.fill_between(low.index.to_numpy(), low, high, color=blue, alpha=0.18, linewidth=0, label=label)
        axes.plot(median.index.to_numpy(), median, color=blue, marker=".", label="median")
        axes.plot(slowest.index.to_numpy(), slowest, color=OTHER, linewidth=0.8, linestyle="--", label="slowest")
        known, every = frame["quantizer"].nunique(), len({row["quantizer"] for row in rows})
        axes.set_xlabel(f"calibration samples seen by {known} of {every} quantizers")
        axes.set_ylabel("amax / final amax")
        axes.set_ylim(max(0.0, float(slowest.min()) - 0.05), top + 0.03)
        axes.set_xlim(left=0)
        axes.legend(loc="lower right", fontsize=8)
        return finish()


@shown
def sufficiency_plot(rows: Sequence[Row]) -> str | None:
    """Held-out error, and how far the slowest amax is from its final value, over the calibration samples."""
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    if not encoders:
        return None
    with canvas(2.7, 1, 2) as ([[left, right]], finish):
        for encoder, style in zip(encoders, ("-", "--"), strict=False):
            mine = [row for row in rows if row["encoder"] == encoder]
            samples = [number(row, "samples") or 0.0 for row in mine]
            errors = [max(1 - (number(row, "cosine_mean") or 0.0), _PERFECT) for row in mine]
            changes = [100 * (number(row, "amax_change") or 0.0) for row in mine]
            left.plot(samples, errors, style, color=FP_COLOURS["fp8"], marker=".", label=str(encoder))
            right.plot(samples, changes, style, color=OTHER, marker=".", label=str(encoder))
        left.set_title("held-out samples, 1 - mean cosine with FP32")
        left.set_yscale("log")
        for axis in (left.yaxis.set_major_formatter, left.yaxis.set_minor_formatter):
            axis("{x:.1g}")  # powers of ten would be in math notation, which the page does not render
        right.set_title("amax furthest from its final value, %")
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.set_xlabel("calibration samples")
            axes.legend(loc="best", fontsize=8)
        return finish()


@shown
def stages_plot(stages: Sequence[Row]) -> str | None:
    """Time and peak memory of each step, in the order they ran."""
    if not stages:
        return None
    names = ("step", "encoder", "precision", "target")
    labels = [", ".join(str(row[name]) for name in names if row[name] is not None) for row in stages]
    with canvas(0.8 + _LINE_HEIGHT * 0.8 * len(stages), 1, 2, sharey=True) as ([[left, right]], finish):
        for axes, name, title, colour in (
            (left, "wall_s", "time, s", FP_COLOURS["fp8"]),
            (right, "peak_rss_mb", "peak memory, MB", OTHER),
        ):
            values = [number(row, name) for row in stages]
            bars = [value or 0.0 for value in values]
            axes.barh(range(len(bars)), bars, height=0.62, color=colour)
            for line, value in enumerate(values):
                note = "not measured" if value is None else f"{value:,.1f}" if name == "wall_s" else f"{value:,.0f}"
                axes.text((value or 0) + max(bars) / 60, line, note, va="center", fontsize=8)
            axes.set_xlim(0, (max(bars) or 1) * 1.18)
            axes.set_title(title)
            _lines(axes, labels)
        return finish()


def _emulated(series: Series, table: Sequence[Row]) -> str:
    key = (series.encoder, series.precision, series.target, series.batch)
    emulated = any(
        (row["encoder"], row["precision"], row["target"], row["batch"]) == key and row["status"] == EMULATED
        for row in table
    )
    return " (emulated)" if emulated else ""


def _boxes(axes: Axes, boxes: Mapping[str, tuple[Series, Sequence[float]]]) -> None:
    drawn = axes.boxplot(
        [list(values) for _, values in boxes.values()],
        orientation="horizontal",
        positions=range(len(boxes)),
        widths=0.55,
        whis=(5, 95),
        patch_artist=True,
        medianprops={"color": "#ffffff", "linewidth": 1.4},
        whiskerprops={"color": QUIET},
        capprops={"color": QUIET},
        flierprops={"marker": ".", "markersize": 2.5, "markeredgecolor": "none", "markerfacecolor": QUIET},
    )
    for box, label, (series, _) in zip(drawn["boxes"], boxes, boxes.values(), strict=True):
        colour = FP_COLOURS.get(series.precision, OTHER)
        box.set(facecolor=colour, edgecolor=colour)
        if label.endswith("(emulated)"):
            box.set(hatch="////", edgecolor="#ffffff", linewidth=0)
    _lines(axes, list(boxes))
    axes.set_xlim(left=0)
    axes.set_xlabel("ms per call")


def _nines_curve(axes: Axes, label: str, precision: str, values: Sequence[float], index: int) -> None:
    ordered = sorted(values)
    errors = [max(1 - value, _PERFECT) for value in ordered]
    share = [100 * (rank + 0.5) / len(ordered) for rank in range(len(ordered))]
    style = ("-", "--", "-.", ":")[index // 2 % 4]
    marker = "." if len(ordered) < 30 else None
    axes.plot(share, errors, style, color=FP_COLOURS.get(precision, OTHER), label=label, marker=marker)


def _nines_axis(axes: Axes) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_yscale("log")
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(top, 2e-2), min(bottom, 1e-4))  # upside down: better is up
    powers = [power for power in range(9) if axes.get_ylim()[1] <= 10**-power <= axes.get_ylim()[0]]
    axes.yaxis.set_major_locator(FixedLocator([10**-power for power in powers]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_nines_label))


def _nines_label(error: float, _: Any) -> str:
    return "1 (rounding)" if error < 1.5 * _PERFECT else f"{1 - error:.10g}"


def _lines(axes: Axes, labels: Sequence[str]) -> None:
    """Label the lines of a horizontal chart, the first at the top."""
    axes.set_yticks(range(len(labels)), [shorten(label, width=_LONGEST, placeholder=" ...") for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _legend(axes: Axes, precisions: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=FP_COLOURS[name], label=name.upper()) for name in precisions]
    axes.legend(handles=handles, loc="lower right", ncols=len(handles), bbox_to_anchor=(1, 1), borderaxespad=0)
