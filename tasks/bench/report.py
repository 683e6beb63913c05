"""What the bench finds: dataclasses whose `dataclasses.asdict` is the JSON, and the same as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from tasks.bench.evidence import Evidence

FORMAT = 1
Status = Literal["measured", "invalid", "not run"]


@dataclass(frozen=True)
class BenchRow:
    """One encoder, precision, target and batch size.

    `speedup` is the FP16 row's median over this one's, of the same target, with its 95 % bootstrap interval
    over rounds; `end_to_end_ms` adds the copies of inputs from pinned host memory. `limit_ms` is the roofline (see
    `tasks.bench.roofline`) and `limit_share` what was reached of it. `cosine` is the least one, row by row, against the
    same ONNX file computed node by node.
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
    """Where it was measured, and the rates that limits are counted with (per second)."""

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
    """All of it; `format` changes when a field changes its meaning."""

    folder: str
    machine: Machine
    command: str
    rows: list[BenchRow] = field(default_factory=list)
    evidence: list[EncoderEvidence] = field(default_factory=list)
    format: int = FORMAT

    def to_json(self) -> str:
        """Valid JSON, whatever could not run."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)


def markdown(report: BenchReport) -> str:
    """The report for people."""
    return "\n".join(
        [*_heading(report), *_latency(report.rows), *_shares(report.evidence), *_layers(report.evidence), ""]
    )


def _heading(report: BenchReport) -> Iterator[str]:
    machine = report.machine
    yield f"# {report.folder}"
    yield ""
    gpu = f"{machine.gpu} ({machine.capability}), driver {machine.driver}" if machine.gpu else "no GPU"
    yield f"{gpu}, CUDA {machine.cuda}, PyTorch {machine.torch}, Python {machine.python}; `{report.command}`"
    if machine.fp16_flops and machine.bandwidth:
        fp8 = f"{machine.fp8_flops / 1e12:.0f} TFLOP/s FP8" if machine.fp8_flops else "no FP8"
        yield ""
        yield (
            f"Measured here: {machine.fp16_flops / 1e12:.0f} TFLOP/s FP16, {fp8} (products of 8192 x 8192 random "
            f"numbers), {machine.bandwidth / 1e12:.2f} TB/s (copy, read and written)."
        )
    yield ""


def _latency(rows: Sequence[BenchRow]) -> Iterator[str]:
    yield (
        "| encoder | batch | target | precision | median ms | p95 | p99 | per s | speedup (95 %) | with transfers ms "
        "| limit ms | of limit | cosine | FP8 share of GEMM | MHz | °C | W | note |"
    )
    yield "|---" * 18 + "|"
    for row in rows:
        interval = f"{row.speedup:.3f} ({row.speedup_low:.3f} to {row.speedup_high:.3f})" if row.speedup else ""
        cells = [
            row.encoder,
            str(row.batch),
            row.target,
            row.precision,
            *(_number(value) for value in (row.median_ms, row.p95_ms, row.p99_ms, row.throughput)),
            interval,
            *(_number(value) for value in (row.end_to_end_ms, row.limit_ms)),
            _percent(row.limit_share),
            "" if row.cosine is None else f"{row.cosine:.5f}",
            _percent(row.fp8_gemm_share),
            *(_number(value) for value in (row.clock_mhz, row.temperature_c, row.power_w)),
            "; ".join(filter(None, (None if row.status == "measured" else row.status, row.note))),
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _shares(evidence: Sequence[EncoderEvidence]) -> Iterator[str]:
    for item in evidence:
        found = item.evidence
        yield f"## {item.encoder} {item.precision}, {item.target}, batch {item.batch}"
        yield ""
        yield (
            f"GEMM {found.gemm / 1e3:.2f} ms ({found.fp8_gemm_share:.0%} in FP8), "
            f"attention {found.attention / 1e3:.2f} ms ({found.fp8_attention_share:.0%} in FP8), "
            f"other {found.other / 1e3:.2f} ms."
        )
        yield ""
        yield from (f"- {spent / 1e3:.3f} ms, {n} launches: `{name[:110]}`" for name, n, spent in found.kernels)
        reasons = {fall.reason for fall in found.fallen_back}
        for reason in sorted(reasons):
            modules = [fall.module for fall in found.fallen_back if fall.reason == reason]
            yield f"- fell back, {len(modules)} modules ({modules[0]} ...): {reason}"
        yield ""


def _layers(evidence: Sequence[EncoderEvidence]) -> Iterator[str]:
    """FP8 beside FP16 by module name, in microseconds."""
    times = {(i.encoder, i.target, i.batch, i.precision): i.evidence.layers for i in evidence if i.evidence.layers}
    for (encoder, target, batch, precision), layers in times.items():
        other = {layer.module: layer.microseconds for layer in times.get((encoder, target, batch, "fp16"), ())}
        if precision != "fp8" or not other:
            continue
        yield f"## Per layer: {encoder}, {target}, batch {batch} (microseconds)"
        yield ""
        yield "| module | FP16 | FP8 | ratio |"
        yield "|---|---|---|---|"
        for layer in layers:
            before = other.get(layer.module)
            ratio = "" if before is None else f"{before / layer.microseconds:.2f}"
            yield f"| {layer.module} | {_number(before)} | {layer.microseconds:.1f} | {ratio} |"
        yield ""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
