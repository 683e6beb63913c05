"""The proof of rows, as Markdown: the gate's verdicts, what ran in FP8, and the commands to repeat them by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from artifacts.inert import fenced, visible
from artifacts.inert import markdown as text
from tasks.bench.gate import is_rejected

if TYPE_CHECKING:
    from tasks.bench.report import BenchReport, BenchRow, EncoderEvidence

_SHORT = 110


def rejected(rows: Sequence[BenchRow]) -> list[BenchRow]:
    """Timed FP8 rows that are not proven to have run in FP8."""
    return [row for row in rows if is_rejected(row.fp8_verdict)]


def rejection(row: BenchRow, least: float) -> str:
    """Why the gate rejects a row, in one line."""
    about = f"{row.encoder} {row.target} fp8 at {row.batch}"
    if row.fp8_gemm_share is None:
        return f"{about}: unverifiable, nothing tells what ran in FP8"
    return f"{about}: failed, {row.fp8_gemm_share:.1%} of the matrix products in FP8, below {least:.0%}"


def gate_section(report: BenchReport) -> Iterator[str]:
    """The section on which FP8 rows passed the gate."""
    judged = [row for row in report.rows if row.fp8_verdict is not None]
    if not judged:
        return
    bad = rejected(judged)
    yield f"## Gate: {report.min_fp8_share:.0%} of the matrix products in FP8"
    yield ""
    yield f"{len(judged) - len(bad)} of {len(judged)} FP8 rows pass."
    yield ""
    yield from (f"- {text(rejection(row, report.min_fp8_share))}" for row in bad)
    yield ""


def evidence_section(evidence: Sequence[EncoderEvidence]) -> Iterator[str]:
    """The section on where one run's time went, what fell back, and the source of this information."""
    for item in evidence:
        found = item.evidence
        yield f"## {text(f'{item.encoder} {item.precision}, {item.target}, batch {item.batch}')}"
        yield ""
        if found.weighed_by == "time":
            yield (
                f"GEMM {found.gemm / 1e3:.2f} ms ({_in_fp8(found.fp8_gemm_share)}), "
                f"attention {found.attention / 1e3:.2f} ms ({_in_fp8(found.fp8_attention_share)}), "
                f"other {found.other / 1e3:.2f} ms; from the {found.source}."
            )
        else:
            yield (
                f"GEMM layers: {_in_fp8(found.fp8_gemm_share)}, fused attention layers: "
                f"{_in_fp8(found.fp8_attention_share)}; from the {found.source}, by number: no layer's time is known."
            )
        yield ""
        if found.doubt is not None:
            yield f"- not verified: {text(found.doubt)}"
        yield from (f"- {spent / 1e3:.3f} ms, {n} launches: {text(name[:_SHORT])}" for name, n, spent in found.kernels)
        if found.unfused_attention:
            yield f"- attention is not one kernel in {text(_some(found.unfused_attention))}"
        for reason in sorted({fall.reason for fall in found.fallen_back}):
            modules = [fall.module for fall in found.fallen_back if fall.reason == reason]
            yield f"- fell back, {text(_some(modules))}: {text(reason)}"
        yield ""


def by_hand_section(rows: Sequence[BenchRow]) -> Iterator[str]:
    """The section with the commands of each engine, folded; the build is the same for all batch sizes."""
    lines = list(dict.fromkeys(line for row in rows for line in (row.build_command, row.run_command) if line))
    if not lines:
        return
    yield "<details><summary>By hand, in the exported folder</summary>"
    yield ""
    yield fenced("\n".join(map(visible, lines)))
    yield ""
    yield "</details>"
    yield ""


def _in_fp8(share: float | None) -> str:
    return "FP8 share unknown" if share is None else f"{share:.0%} in FP8"


def _some(modules: Sequence[str]) -> str:
    return f"{len(modules)} modules ({modules[0]} ...)"
