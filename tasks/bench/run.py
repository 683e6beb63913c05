"""Timing an exported folder: every encoder, target and batch size, or the reason why not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import ClipsmithError, DataError, EngineUnavailable, UnknownTarget
from artifacts.nearest import meant, nearest
from tasks.bench import engine_target, machine, torch_target
from tasks.bench.accuracy import Scores
from tasks.bench.evaluation import Evaluation
from tasks.bench.gate import judge
from tasks.bench.gpu_timing import interleave, warm_up, with_transfers
from tasks.bench.layers import layer_rows
from tasks.bench.report import BenchReport, BenchRow, EncoderEvidence
from tasks.bench.roofline import DeviceRates, count_products, limit_seconds, measure_rates
from tasks.bench.settings import ENCODERS, PRECISIONS, BenchSettings, Precision
from tasks.bench.stability import BATCH
from tasks.bench.variant import Prepared, Variant, least_cosine
from tasks.device.gpu_state import GpuState, why_invalid
from tasks.evaluation.metrics import ratio_interval
from tasks.torch_fp8.onnx_graph import random_inputs

if TYPE_CHECKING:
    import torch

_TIME_IS_UP = "the time is up"
_LONGEST_REASON = 400


@dataclass(frozen=True)
class _Entry:
    """One target in one precision, ready to be timed."""

    target: str
    precision: Precision
    variant: Variant
    cosine: float

    @property
    def name(self) -> str:
        return f"{self.target} {self.precision}"


def bench(
    folder: Path, settings: BenchSettings, command: str = "", watch: Callable[[BenchReport], None] = lambda _: None
) -> BenchReport:
    """Time the encoders in `folder`/{image,text}/{fp16,fp8}.onnx.

    What cannot run is not an error: its rows say why. Accuracy is measured if the folder holds an evaluation set.
    `watch` is called with the report after each batch size.
    """
    reason = machine.why_no_gpu()
    if reason is not None:
        return not_measured(folder.name, settings, reason, command, _encoders(folder))
    report = BenchReport(folder.name, machine.describe(None), command, min_fp8_share=settings.min_fp8_share)
    rates = measure_rates()
    report.machine = machine.describe(rates)
    end = None if settings.seconds is None else time.monotonic() + settings.seconds
    scores: Scores | None = None
    try:
        scores = Scores(Evaluation.load(folder))
    except DataError as error:
        report.unscored.append(error.what)
    encoders = _encoders(folder)
    for place, encoder in enumerate(encoders):
        now = time.monotonic()
        deadline = None if end is None else now + (end - now) / (len(encoders) - place)
        _Bench(folder / encoder, encoder, settings, rates, report, deadline, scores, watch).run()
    return report


def not_measured(
    name: str, settings: BenchSettings, reason: str, command: str, encoders: Sequence[str] = ENCODERS
) -> BenchReport:
    """The report if nothing can be timed, for this reason."""
    rows = [
        BenchRow(encoder, precision, target, batch, "not run", note=reason)
        for encoder in encoders
        for batch in settings.batches
        for target, precision in settings.planned()
    ]
    return BenchReport(name, machine.describe(None), command, rows, min_fp8_share=settings.min_fp8_share)


def _encoders(folder: Path) -> Sequence[str]:
    """The encoders in the folder; both if there are none, so that their rows say so."""
    found = [encoder for encoder in ENCODERS if any((folder / encoder / f"{p}.onnx").exists() for p in PRECISIONS)]
    return found or ENCODERS


def _open(path: Path, target: str, precision: Precision, batches: Sequence[int]) -> Variant:
    """Load a target's variant of an exported file.

    Raises:
        UnknownTarget: the bench does not know the target.
        EngineUnavailable: this machine or installation cannot run it.
        BuildError, EngineFailed: the engine cannot be built or loaded.
    """
    engine = target in engine_target.TARGETS
    if not engine and target not in (*torch_target.BASELINES, torch_target.TARGET):
        known = (*torch_target.BASELINES, *engine_target.TARGETS, torch_target.TARGET)
        raise UnknownTarget(
            f"the bench knows no target {target!r}",
            expected=f"some of {', '.join(known)}",
            fix=f"{meant(nearest(target, known))}correct it",
        )
    reason = engine_target.why_not(target, precision) if engine else torch_target.why_not(target)
    if reason is not None:
        raise EngineUnavailable(reason)
    if engine:
        return engine_target.EngineVariant.load(path, target, batches)
    return torch_target.TorchVariant.load(path, target)


@dataclass
class _Bench:
    """The bench of one encoder."""

    folder: Path
    encoder: str
    settings: BenchSettings
    rates: DeviceRates
    report: BenchReport
    deadline: float | None
    scores: Scores | None
    watch: Callable[[BenchReport], None]

    def run(self) -> None:
        import torch

        entries: list[_Entry] = []
        with torch.no_grad():
            for target, precision in self.settings.planned():
                try:
                    entries.append(self._entry(target, precision))
                except (ClipsmithError, RuntimeError) as error:
                    self._refuse(target, precision, self.settings.batches, _reason(error))
                    if self.scores is not None:
                        self.report.unscored.append(f"{self.encoder} {target} {precision}: {_reason(error)}")
            self._score(entries)
            for batch in self.settings.batches if entries else ():
                self._time(batch, entries)
                self.report.layers = layer_rows(self.report.evidence)
                self.watch(self.report)
        for entry in entries:
            entry.variant.close()
        torch._dynamo.reset()
        torch.cuda.empty_cache()

    def _refuse(self, target: str, precision: str, batches: Sequence[int], reason: str) -> None:
        rows = (BenchRow(self.encoder, precision, target, batch, "not run", note=reason) for batch in batches)
        self.report.rows.extend(rows)

    def _entry(self, target: str, precision: Precision) -> _Entry:
        path = self.folder / f"{precision}.onnx"
        if self._late():
            raise EngineUnavailable(_TIME_IS_UP)
        if not path.exists():
            raise EngineUnavailable(f"there is no {path.name}")
        variant = _open(path, target, precision, self.settings.batches or (BATCH,))
        return _Entry(target, precision, variant, least_cosine(path, variant))

    def _score(self, entries: Sequence[_Entry]) -> None:
        if self.scores is None:
            return
        for entry in entries:
            try:
                self.scores.measure(self.encoder, entry.target, entry.precision, entry.variant)
            except (ClipsmithError, RuntimeError) as error:
                self.report.unscored.append(f"{self.encoder} {entry.name}: {_reason(error)}")
        self.report.accuracy, self.report.stability = self.scores.rows(), self.scores.stability
        self.watch(self.report)

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    # --- timing

    def _time(self, batch: int, entries: Sequence[_Entry]) -> None:
        import torch

        if self._late():
            for entry in entries:
                self._refuse(entry.target, entry.precision, (batch,), _TIME_IS_UP)
            return
        seeds = range(1, self.settings.timing.input_sets + 1)
        sets = [machine.on_device(random_inputs(entries[0].variant.graph, batch, seed)) for seed in seeds]
        idle = machine.when_idle()
        prepared = dict(self._prepared(batch, entries, sets))
        runs = {name: made.run for name, made in prepared.items()}
        steady = warm_up(runs)
        times = interleave(runs, self.settings.timing)
        both = {name: with_transfers(run, sets) for name, run in runs.items()}
        warm_up(both)
        whole = interleave(both, replace(self.settings.timing, seconds=self.settings.timing.seconds / 3))
        for entry in (entry for entry in entries if entry.name in prepared):
            row = self._row(batch, entry, np.concatenate(times[entry.name]), prepared[entry.name], idle)
            fp16 = times.get(f"{entry.target} fp16")
            if row.precision == "fp8" and row.status == "measured" and fp16 is not None:
                speedup, low, high = ratio_interval(_medians(fp16), _medians(times[entry.name]))
                row = replace(row, speedup=speedup, speedup_low=low, speedup_high=high)
            end_to_end = float(np.median(np.concatenate(whole[entry.name])))
            self.report.rows.append(replace(row, end_to_end_ms=end_to_end, steady=steady))
        del prepared, runs, both, sets
        torch.cuda.empty_cache()

    def _prepared(
        self, batch: int, entries: Sequence[_Entry], sets: Sequence[Sequence[torch.Tensor]]
    ) -> Iterator[tuple[str, Prepared]]:
        """Each variant prepared for a batch size; one that cannot be prepared (for lack of memory, say) gets a row that
        says so."""
        for entry in entries:
            try:
                yield entry.name, entry.variant.prepare(sets)
            except (ClipsmithError, RuntimeError) as error:
                self._refuse(entry.target, entry.precision, (batch,), _reason(error))

    def _row(
        self, batch: int, entry: _Entry, times: NDArray[np.float64], prepared: Prepared, idle: GpuState | None
    ) -> BenchRow:
        loaded, temperature, power = machine.under_load(prepared.run)
        doubt = why_invalid(idle, loaded)
        evidence = prepared.evidence()
        if batch == max(self.settings.batches):
            self.report.evidence.append(EncoderEvidence(self.encoder, entry.precision, entry.target, batch, evidence))
        products = count_products(entry.variant.graph, batch)
        limit = limit_seconds(products, self.rates, attention_fp8=bool(evidence.fp8_attention_share)) * 1e3
        by_hand = entry.variant.commands(batch)
        p50, p95, p99 = (float(np.percentile(times, q)) for q in (50, 95, 99))
        return BenchRow(
            encoder=self.encoder,
            precision=entry.precision,
            target=entry.target,
            batch=batch,
            status="invalid" if doubt else "measured",
            median_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            throughput=batch / p50 * 1e3,
            runs=len(times),
            clock_mhz=None if loaded is None else loaded.clock_mhz,
            temperature_c=temperature,
            power_w=power,
            gflops=sum(product.flops for product in products) / 1e9,
            limit_ms=limit,
            limit_share=limit / p50,
            cosine=entry.cosine,
            fp8_gemm_share=evidence.fp8_gemm_share,
            fp8_attention_share=evidence.fp8_attention_share,
            fp8_verdict=judge(entry.precision, evidence.fp8_gemm_share, self.settings.min_fp8_share),
            build_command=None if by_hand is None else by_hand.build,
            run_command=None if by_hand is None else by_hand.run,
            note="; ".join(filter(None, (doubt, prepared.note))) or None,
        )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST_REASON]


def _medians(blocks: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The median of each round's block, (rounds,)."""
    return np.array([np.median(block) for block in blocks])
