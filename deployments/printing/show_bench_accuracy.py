"""Printing the bench's accuracy: closeness to FP32 and the task, one line each, and whether runs are bit-identical."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deployments.printing.console import print_list

if TYPE_CHECKING:
    from artifacts.manifest import Cell, Row
    from deployments.printing.console import Terminal
    from tasks.bench.report import BenchReport

    _Found = dict[tuple[Cell, ...], Row]

_HEADS = ("encoder", "target", "precision", ">mean cosine with FP32", ">least", "the same bits again")
_TASKS = ("top1", "recall@1_image_to_text", "recall@1_text_to_image")


def print_accuracy(console: Terminal, report: BenchReport) -> None:
    """Print what was scored, and why the rest was not."""
    keys = ("encoder", "target", "precision", "reference", "metric")
    found: _Found = {tuple(row[key] for key in keys): row for row in report.accuracy}
    if report.stability:
        console.print()
        print_list(console, _HEADS, list(_lines(report, found)))
    for row in report.accuracy:
        if row["metric"] in _TASKS:
            console.say(
                f"{row['metric']} of {row['precision']}, {row['target']}: {row['value']:.4f} ({row['samples']} samples)"
            )
    for reason in report.unscored:
        console.say(f"accuracy not measured: {reason}")


def _lines(report: BenchReport, found: _Found) -> Iterator[tuple[str, ...]]:
    from tasks.bench.stability import AGAIN

    for item in report.stability:
        if item.compared == AGAIN:
            named = (item.encoder, item.target, item.precision)
            cosines = (f"{found[*named, 'fp32', metric]['value']:.6f}" for metric in ("cosine_mean", "cosine_min"))
            different = f"{item.differing:,} of {item.elements:,} elements differ"
            yield (*named, *cosines, different if item.differing else f"yes, in {item.runs} runs")
