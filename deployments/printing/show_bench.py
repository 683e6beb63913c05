"""Printing the bench's report: measurements as a table, and below it the reasons why others are missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from artifacts.number_words import given, interval
from deployments.printing.console import print_list, stdout
from deployments.printing.show_bench_accuracy import print_accuracy
from tasks.bench.proof import rejected, rejection

if TYPE_CHECKING:
    from tasks.bench.report import BenchReport, BenchRow, Machine

_HEADS = (
    "encoder",
    ">batch",
    "target",
    "precision",
    ">median ms",
    ">p95",
    ">p99",
    ">per s",
    ">FP8 against FP16 (95 %)",
    ">of limit",
    ">FP8 products",
    "",
)


def print_bench(report: BenchReport) -> None:
    """Print the report; a row that was measured on a shared or throttled GPU says so at its end."""
    console = stdout()
    console.say(f"{report.folder}: {_where(report.machine)}")
    console.print()
    timed = [row for row in report.rows if row.status != "not run"]
    if timed:
        print_list(console, _HEADS, [_cells(row) for row in timed])
    print_accuracy(console, report)
    for row in rejected(report.rows):
        console.say((f"gate: {rejection(row, report.min_fp8_share)}", "red"))
    for reason, rows in _reasons(report.rows).items():
        console.say((f"not run, {reason}:", "bold"))
        for line in rows:
            console.say(f"  {line}")


def _where(machine: Machine) -> str:
    gpu = f"{machine.gpu} ({machine.capability}), driver {machine.driver}, CUDA {machine.cuda}"
    return f"{gpu if machine.gpu else 'no GPU'}, PyTorch {machine.torch}, Python {machine.python}"


def _cells(row: BenchRow) -> tuple[str, ...]:
    times = [given(value, "{:,.3f}", "") for value in (row.median_ms, row.p95_ms, row.p99_ms)]
    speedup = given(row.speedup, "{:.2f}x", "") + interval(row.speedup_low, row.speedup_high, "{:.2f}")
    shares = [given(share, "{:.0%}", "") for share in (row.limit_share, row.fp8_gemm_share)]
    doubt = f"{row.status}: {row.note}" if row.status == "invalid" else row.note or ""
    named = (row.encoder, str(row.batch), row.target, row.precision)
    return (*named, *times, given(row.throughput, "{:,.0f}", ""), speedup, *shares, doubt)


def _reasons(rows: Sequence[BenchRow]) -> dict[str, list[str]]:
    """What was not measured, by reason: one text per encoder and target."""
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    for row in rows:
        if row.status == "not run":
            found.setdefault(row.note or "", {}).setdefault((row.encoder, row.target), []).append(
                f"{row.precision} at {row.batch}"
            )
    return {
        reason: [f"{encoder} {target}: {', '.join(which)}" for (encoder, target), which in lines.items()]
        for reason, lines in found.items()
    }
