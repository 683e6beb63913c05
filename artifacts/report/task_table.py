"""The task's accuracy in FP32, FP16 and FP8, and the differences: one line per metric and target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from artifacts.number_words import NONE, metric, points, points_range
from artifacts.schema import EACH_CAPTION, Tables, number

if TYPE_CHECKING:
    from artifacts.manifest import Cell, Row

HEADS = ("metric", "target", "FP32", "FP16", "FP8", "FP16 - FP32", "FP8 - FP32", "FP8 - FP16")
"""Differences are in percentage points."""
PAIRS = (("fp16", "fp32"), ("fp8", "fp32"), ("fp8", "fp16"))
"""The compared precisions: (precision, reference)."""
_WORDS = {
    "top1": "zero-shot top-1",
    "top5": "zero-shot top-5",
    "mean_class_recall": "mean per-class recall",
    **{
        f"recall@{k}_{way.replace('-', '_')}{end}": f"{way} recall@{k}{words}"
        for end, words in (("", ""), (EACH_CAPTION, ", each caption by itself"))
        for way in ("image-to-text", "text-to-image")
        for k in (1, 5, 10)
    },
}


class TaskLine(NamedTuple):
    """One line, in words, in the order of `HEADS`; a difference has its 95 % interval, and McNemar's p."""

    metric: str
    target: str
    fp32: str
    fp16: str
    fp8: str
    fp16_change: str
    fp8_change: str
    fp8_against_fp16: str


def task_lines(tables: Tables, *, with_p: bool = True) -> list[TaskLine]:
    """A line for each metric and target that has one of the task's rates; McNemar's p of differences if asked for."""
    rows = [row for row in tables.get("accuracy", ()) if row["metric"] in _WORDS]
    targets = dict.fromkeys(str(row["target"]) for row in rows if row["precision"] != "fp32")
    metrics = dict.fromkeys(str(row["metric"]) for row in rows)
    accuracy = tables.get("accuracy", ())
    return [_line(accuracy, name, target, with_p) for target in targets for name in metrics]


def _line(accuracy: Sequence[Row], name: str, target: str, with_p: bool) -> TaskLine:
    rates = [_rate(accuracy, name, target, precision) for precision in ("fp32", "fp16", "fp8")]
    changes = [_change(accuracy, name, target, *pair, with_p) for pair in PAIRS]
    return TaskLine(_WORDS[name], target, *rates, *changes)


def _rate(accuracy: Sequence[Row], name: str, target: str, precision: str) -> str:
    """The rate as text, with its interval; FP32's of any target, as it always ran in PyTorch."""
    found = [
        row
        for row in accuracy
        if (row["metric"], row["precision"]) == (name, precision) and (precision == "fp32" or row["target"] == target)
    ]
    return metric(name, number(found[0], "value")) if found else NONE


def _change(accuracy: Sequence[Row], name: str, target: str, precision: str, reference: str, with_p: bool) -> str:
    wanted = (target, precision, reference)
    rows: dict[Cell, Row] = {
        row["metric"]: row for row in accuracy if (row["target"], row["precision"], row["reference"]) == wanted
    }
    row = rows.get(f"{name}_difference", {})
    value, low, high = (number(row, column) for column in ("value", "low", "high"))
    if value is None:
        return NONE
    inside = [] if low is None or high is None else [points_range(low, high, 2)]
    p = number(rows.get(f"{name}_mcnemar_p", {}), "value")
    inside += [] if p is None or not with_p else [f"p {p:.2g}"]
    return points(value, 2).removesuffix(" points") + (f" ({'; '.join(inside)})" if inside else "")
