"""The table people read first on accuracy: which row becomes which cell."""

from __future__ import annotations

from typing import Any

from artifacts.manifest import Row
from artifacts.number_words import NONE
from artifacts.report.task_table import HEADS, task_lines
from tests.artifacts.conftest import make_row


def row(precision: str, reference: str, metric: str, value: float, **more: Any) -> Row:
    base = {"encoder": "both", "target": "pytorch" if precision == "fp32" else "ort", "samples": 500}
    values = {"precision": precision, "reference": reference, "metric": metric, "value": value}
    return make_row("accuracy", **(base | values | more))


RATES = [row(p, "labels", "top1", v) for p, v in (("fp32", 0.75), ("fp16", 0.751), ("fp8", 0.74))]
CHANGES = [
    row("fp16", "fp32", "top1_difference", 0.001, low=-0.002, high=0.004),
    row("fp16", "fp32", "top1_mcnemar_p", 1.0),
    row("fp8", "fp32", "top1_difference", -0.01, low=-0.02, high=-0.0004),
    row("fp8", "fp32", "top1_mcnemar_p", 0.0213),
    row("fp8", "fp16", "top1_difference", -0.011),
]


def test_a_line_has_every_precision_and_every_difference() -> None:
    (line,) = task_lines({"accuracy": [*RATES, *CHANGES]})
    assert [cell.replace("\N{MINUS SIGN}", "-") for cell in line] == [
        "zero-shot top-1",
        "ort",
        "75.00 %",
        "75.10 %",
        "74.00 %",
        "+0.10 (-0.20 to +0.40; p 1)",
        "-1.00 (-2.00 to -0.04; p 0.021)",
        "-1.10",
    ]
    assert len(line) == len(HEADS)


def test_each_target_has_its_lines_and_what_was_not_measured_is_a_dash() -> None:
    other = [
        row("fp8", "labels", "top1", 0.7, target="trt"),
        row("fp8", "fp32", "top1_difference", -0.05, target="trt"),
    ]
    first, second = task_lines({"accuracy": [*RATES, *other]})
    assert (first.target, first.fp8_change) == ("ort", NONE)
    assert (second.target, second.fp32, second.fp16, second.fp8) == ("trt", "75.00 %", NONE, "70.00 %")
    assert task_lines({"accuracy": [row("fp8", "fp32", "cosine_mean", 0.99)]}) == []
