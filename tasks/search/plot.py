"""The plot of a search: fidelity against the share of the work that is in FP8, and what each unit costs."""

from __future__ import annotations

from collections.abc import Sequence

from artifacts.canvas import FP_COLOURS, OTHER, QUIET, Axes, drawing
from tasks.search.plan import Trial, pareto
from tasks.search.sensitivity import Sensitivity

_WORST = 12
_LEAST = 1e-12
"""For a logarithmic scale: losses are rounding errors of FP32 below it."""


def front_plot(trials: Sequence[Trial], best: Trial | None, sensitivities: Sequence[Sensitivity]) -> str:
    """One SVG: every evaluated recipe with the Pareto front, and beside it the most sensitive units."""
    with drawing(3.6, 1, 2) as (grid, finish):
        (curve, bars) = grid[0]
        _draw_trials(curve, trials, best)
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
            _draw_group(axes, "s", finer, f"{label}, weights scaled by channel", filled=passed)
    if best is not None:
        axes.plot(100 * best.share, best.fidelity, "*", markersize=13, color="#b45309", label="the recipe", zorder=4)
    axes.set_xlabel("share of the operations in FP8, %")
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.margins(0.08)
    axes.legend(loc="best", fontsize=8)


def _draw_group(axes: Axes, marker: str, trials: Sequence[Trial], label: str, *, filled: bool) -> None:
    face = FP_COLOURS["fp8"] if filled else "#ffffff"
    xs, ys = [100 * t.share for t in trials], [t.fidelity for t in trials]
    axes.plot(xs, ys, marker, markersize=5, markerfacecolor=face, markeredgecolor=FP_COLOURS["fp8"], label=label)


def _draw_units(axes: Axes, sensitivities: Sequence[Sensitivity]) -> None:
    worst = sorted(sensitivities, key=lambda found: -found.loss)[:_WORST][::-1]
    axes.set_title("1 - cosine with this module alone in FP8")
    axes.barh([s.unit.module for s in worst], [max(s.loss, _LEAST) for s in worst], color=OTHER, height=0.6)
    axes.set_xscale("log")
    axes.tick_params(axis="y", labelsize=6.5, labelcolor=QUIET)
