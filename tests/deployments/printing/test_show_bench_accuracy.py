"""What the command prints of accuracy and bits."""

from __future__ import annotations

import io

from deployments.printing.console import Terminal
from deployments.printing.show_bench_accuracy import print_accuracy
from tasks.bench.report import BenchReport, Machine
from tasks.bench.stability import AGAIN, MOVED, Stability
from tasks.evaluation.scoring import accuracy_row


def printed(report: BenchReport) -> list[str]:
    stream = io.StringIO()
    print_accuracy(Terminal(file=stream, width=160), report)
    return [" ".join(line.split()) for line in stream.getvalue().splitlines() if line.strip()]


def report(differing: int) -> BenchReport:
    pair = ("image", "torch-fp8", "fp8")
    rows = [
        accuracy_row(*pair, "fp32", "cosine_mean", 0.99912, 500),
        accuracy_row(*pair, "fp32", "cosine_min", 0.9981, 500),
        accuracy_row("both", "torch-fp8", "fp8", "labels", "top1", 0.992, 500),
    ]
    stable = [Stability(*pair, AGAIN, 5, 32_000, differing, 0.25), Stability(*pair, MOVED, 1, 32_000, 7, 0.5)]
    return BenchReport("x", Machine(None, None, None, "", "", None), "", accuracy=rows, stability=stable)


def test_a_line_for_each_target_and_one_for_the_task() -> None:
    lines = printed(report(0))
    assert "image torch-fp8 fp8 0.999120 0.998100 yes, in 5 runs" in lines
    assert lines[-1] == "top1 of fp8, torch-fp8: 0.9920 (500 samples)"
    assert "image torch-fp8 fp8 0.999120 0.998100 12 of 32,000 elements differ" in printed(report(12))


def test_what_was_not_scored_says_why() -> None:
    lines = printed(BenchReport("x", Machine(None, None, None, "", "", None), "", unscored=["there is no data"]))
    assert lines == ["accuracy not measured: there is no data"]
