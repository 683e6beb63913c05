"""The bench's report: dataclasses whose `dataclasses.asdict` is the JSON, and the same as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from artifacts.inert import markdown as text
from artifacts.number_words import counted, given, interval
from tasks.bench.evidence import Evidence
from tasks.bench.gate import MIN_FP8_SHARE, Verdict
from tasks.bench.layers import LayerRow
from tasks.bench.proof import by_hand_section, evidence_section, gate_section
from tasks.bench.stability import Stability

if TYPE_CHECKING:
    from artifacts.manifest import Row

FORMAT = 2
Status = Literal["measured", "invalid", "not run"]


@dataclass(frozen=True)
class BenchRow:
    """One encoder, precision, target and batch size.

    `speedup` is the median of the same target's FP16 row divided by this row's, with its 95 % bootstrap interval over
    rounds; `end_to_end_ms` includes the copies of inputs from pinned host memory and of the output to it. `limit_ms` is
    the roofline (see `tasks.bench.roofline`) and `limit_share` the reached share of it. `cosine` is the least cosine of
    a sample's embedding with that of the same ONNX file computed node by node. `fp8_verdict` is the gate's verdict on a
    timed FP8 row; the commands are for engines, to be run in the exported folder.
    """

    encoder: str
    precision: str
    target: str
    batch: int
    status: Status
    median_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    throughput: float | None = None
    runs: int | None = None
    steady: bool | None = None
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    end_to_end_ms: float | None = None
    clock_mhz: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    gflops: float | None = None
    limit_ms: float | None = None
    limit_share: float | None = None
    cosine: float | None = None
    fp8_gemm_share: float | None = None
    fp8_attention_share: float | None = None
    fp8_verdict: Verdict | None = None
    build_command: str | None = None
    run_command: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class EncoderEvidence:
    """Where the time of one run went, for one encoder, precision, target and batch."""

    encoder: str
    precision: str
    target: str
    batch: int
    evidence: Evidence


@dataclass(frozen=True)
class Machine:
    """The machine of the measurements, and its rates per second, from which limits are computed."""

    gpu: str | None
    capability: str | None
    driver: str | None
    python: str
    torch: str
    cuda: str | None
    fp16_flops: float | None = None
    fp8_flops: float | None = None
    bandwidth: float | None = None


@dataclass
class BenchReport:
    """Everything that a bench found; `format` changes when a field changes its meaning.

    `accuracy` has the columns of a release's table of that name; `unscored` says why rows are missing from it.
    """

    folder: str
    machine: Machine
    command: str
    rows: list[BenchRow] = field(default_factory=list)
    evidence: list[EncoderEvidence] = field(default_factory=list)
    layers: list[LayerRow] = field(default_factory=list)
    accuracy: list[Row] = field(default_factory=list)
    stability: list[Stability] = field(default_factory=list)
    unscored: list[str] = field(default_factory=list)
    min_fp8_share: float = MIN_FP8_SHARE
    format: int = FORMAT

    def to_json(self) -> str:
        """The report as JSON, valid also if something could not run."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)


def markdown(report: BenchReport) -> str:
    """The report for people."""
    return "\n".join(
        [
            *_heading(report),
            *_latency(report.rows),
            *_accuracy(report),
            *_stability(report.stability),
            *gate_section(report),
            *evidence_section(report.evidence),
            *_layers(report.layers),
            *by_hand_section(report.rows),
            "",
        ]
    )


def _heading(report: BenchReport) -> Iterator[str]:
    machine = report.machine
    yield f"# {text(report.folder)}"
    yield ""
    gpu = f"{machine.gpu} ({machine.capability}), driver {machine.driver}" if machine.gpu else "no GPU"
    yield text(f"{gpu}, CUDA {machine.cuda}, PyTorch {machine.torch}, Python {machine.python}; {report.command}")
    if machine.fp16_flops and machine.bandwidth:
        fp8 = f"{machine.fp8_flops / 1e12:.0f} TFLOP/s FP8" if machine.fp8_flops else "no FP8"
        yield ""
        yield (
            f"Measured here: {machine.fp16_flops / 1e12:.0f} TFLOP/s FP16, {fp8} (products of 8192 x 8192 random "
            f"numbers), {machine.bandwidth / 1e12:.2f} TB/s (copy, read and written)."
        )
    yield ""


def _latency(rows: Sequence[BenchRow]) -> Iterator[str]:
    if not rows:
        return
    yield (
        "| encoder | batch | target | precision | median ms | p95 | p99 | per s | speedup (95 %) | with transfers ms "
        "| limit ms | of limit | cosine | FP8 share of GEMM | MHz | °C | W | note |"
    )
    yield "|---" * 18 + "|"
    for row in rows:
        speedup = given(row.speedup, "{:.3f}", "") + interval(row.speedup_low, row.speedup_high, "{:.3f}")
        cells = [
            row.encoder,
            str(row.batch),
            row.target,
            row.precision,
            *(_number(value) for value in (row.median_ms, row.p95_ms, row.p99_ms, row.throughput)),
            speedup,
            *(_number(value) for value in (row.end_to_end_ms, row.limit_ms)),
            given(row.limit_share, "{:.0%}", ""),
            given(row.cosine, "{:.5f}", ""),
            given(row.fp8_gemm_share, "{:.0%}", ""),
            *(_number(value) for value in (row.clock_mhz, row.temperature_c, row.power_w)),
            "; ".join(filter(None, (None if row.status == "measured" else row.status, row.note))),
        ]
        yield f"| {' | '.join(map(text, cells))} |"
    yield ""


def _accuracy(report: BenchReport) -> Iterator[str]:
    if report.unscored:
        yield from (f"- accuracy not measured: {text(reason)}" for reason in report.unscored)
        yield ""
    if report.accuracy:
        yield "## Accuracy on the evaluation set"
        yield ""
        yield "| encoder | target | precision | reference | metric | value (95 %) | samples |"
        yield "|---" * 7 + "|"
        for row in report.accuracy:
            value = given(row["value"], "{:.6g}", "") + interval(row["low"], row["high"], "{:.6g}")
            names = [str(row[name]) for name in ("encoder", "target", "precision", "reference", "metric")]
            yield f"| {' | '.join(map(text, names))} | {value} | {row['samples']} |"
        yield ""


def _stability(found: Sequence[Stability]) -> Iterator[str]:
    if not found:
        return
    yield "## Are the bits the same?"
    yield ""
    yield "| encoder | target | precision | against the first run | result |"
    yield "|---" * 5 + "|"
    for item in found:
        different = f"{item.differing:,} of {item.elements:,} elements differ, by {item.max_abs:.3g} at most"
        result = different if item.differing else f"bit-identical in {counted(item.runs, 'run')}"
        yield f"| {' | '.join(map(text, (item.encoder, item.target, item.precision, item.compared, result)))} |"
    yield ""


def _layers(rows: Sequence[LayerRow]) -> Iterator[str]:
    """The table of layers: FP16 and FP8 times by module name, in microseconds."""
    for (encoder, target, batch), group in groupby(rows, lambda row: (row.encoder, row.target, row.batch)):
        yield f"## Per layer: {text(encoder)}, {text(target)}, batch {batch} (microseconds)"
        yield ""
        yield "| module | FP16 | FP8 | ratio | fell back |"
        yield "|---" * 5 + "|"
        for row in group:
            numbers = (_number(value) for value in (row.fp16_us, row.fp8_us, row.ratio))
            yield f"| {text(row.module)} | {' | '.join(numbers)} | {row.fell_back or ''} |"
        yield ""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
