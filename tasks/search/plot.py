"""The plot of a search: fidelity against the share of work in FP8, and the loss of each unit."""

from __future__ import annotations

from collections.abc import Sequence

from artifacts.inert import visible
from artifacts.report.canvas import FP_COLOURS, OTHER, QUIET, Axes, drawing
from tasks.search.plan import Trial, pareto
from tasks.search.sensitivity import Sensitivity

_WORST = 12
_LEAST = 1e-12
"""The least loss on the logarithmic scale: smaller ones are rounding errors of FP32."""


def front_plot(
    trials: Sequence[Trial], best: Trial | None, sensitivities: Sequence[Sensitivity], rival: Sequence[Trial] = ()
) -> str:
    """The plot as SVG: every evaluated recipe with the Pareto front, those of `rival`, and the most sensitive units."""
    with drawing(3.6, 1, 2) as (grid, finish):
        (curve, bars) = grid[0]
        _draw_trials(curve, trials, best)
        for passed, label in ((True, "auto_quantize"), (False, "auto_quantize, does not")):
            group = [trial for trial in rival if trial.passed is passed]
            if group:
                _draw_group(curve, "^", group, label, filled=passed, colour=OTHER)
        curve.legend(loc="best", fontsize=7.5)
        _draw_units(bars, sensitivities)
        return finish()


def _draw_trials(axes: Axes, trials: Sequence[Trial], best: Trial | None) -> None:
    front = pareto(trials)
    axes.set_title("Least mean cosine with FP32")
    axes.plot([100 * t.share for t in front], [t.fidelity for t in front], color=FP_COLOURS["fp8"], linewidth=1.2)
    one, each = ([t for t in trials if bool(t.by_channel) is finer] for finer in (False, True))
    for passed, label in ((True, "meets the gates"), (False, "does not")):
        _draw_group(axes, "o", [trial for trial in one if trial.passed is passed], label, filled=passed)
        finer = [trial for trial in each if trial.passed is passed]
        if finer:
            _draw_group(axes, "s", finer, f"{label}, scales by channel", filled=passed)
    if best is not None:
        axes.plot(100 * best.share, best.fidelity, "*", markersize=13, color="#b45309", label="the recipe", zorder=4)
    axes.set_xlabel("share of the operations in FP8, %")
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.margins(0.08)


def _draw_group(
    axes: Axes, marker: str, trials: Sequence[Trial], label: str, *, filled: bool, colour: str = FP_COLOURS["fp8"]
) -> None:
    face = colour if filled else "#ffffff"
    xs, ys = [100 * t.share for t in trials], [t.fidelity for t in trials]
    axes.plot(xs, ys, marker, markersize=5, markerfacecolor=face, markeredgecolor=colour, label=label)


def _draw_units(axes: Axes, sensitivities: Sequence[Sensitivity]) -> None:
    worst = sorted(sensitivities, key=lambda found: -found.loss)[:_WORST][::-1]
    axes.set_title("1 - cosine with this module alone in FP8")
    axes.barh([visible(s.unit.module) for s in worst], [max(s.loss, _LEAST) for s in worst], color=OTHER, height=0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:.0e}")  # powers of ten would be in math notation, which the page does not render
    axes.xaxis.set_minor_formatter("")
    axes.tick_params(axis="y", labelsize=6.5, labelcolor=QUIET)
