"""Time an exported folder: every encoder, target and batch size, or the reason why not."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import ClipsmithError
from tasks.bench.evidence import Evidence, profile, weigh
from tasks.bench.gpu_timing import Run, TimingSettings, capture, interleave, plain, warm_up, with_transfers
from tasks.bench.onnx_graph import random_inputs
from tasks.bench.report import BenchReport, BenchRow, EncoderEvidence, Machine
from tasks.bench.roofline import DeviceRates, count_products, limit_seconds, measure_rates
from tasks.gpu_state import GpuState, driver_version, read_gpu_state, settled, why_invalid
from tasks.metrics import cosine, ratio_interval

if TYPE_CHECKING:
    import torch

    from tasks.bench.torch_graph import Loaded

ENCODERS = ("image", "text")
PRECISIONS: tuple[Precision, ...] = ("fp16", "fp8")
Precision = Literal["fp16", "fp8"]
_CHECKED = 32
"""Samples on which a target's output is held against the graph computed node by node."""
_DEVICE = "cuda"
_HOPPER = (9, 0)


@dataclass(frozen=True)
class BenchSettings:
    """What to time.

    A target serves both precisions: `torch-fp8` is the compiled encoder with our kernels, FP16 and FP8 interleaved.
    Baselines, in FP16: `torch-eager` is PyTorch called from Python, `torch-compile` PyTorch without our kernels.
    """

    batches: tuple[int, ...] = (1, 8, 32, 128)
    baselines: tuple[str, ...] = ("torch-eager", "torch-compile")
    targets: tuple[str, ...] = ("torch-fp8",)
    timing: TimingSettings = field(default_factory=TimingSettings)
    seconds: float | None = None
    """Begin no new encoder, target or batch after so many seconds; what is left says so."""


@dataclass(frozen=True)
class _Variant:
    """One thing to time: a target's name, precision, and how to make a run of it for given inputs."""

    target: str
    precision: Precision
    loaded: Loaded
    make: Callable[[Sequence[Sequence[torch.Tensor]]], Run]
    call: Callable[..., Any]
    cosine: float


def bench(
    folder: Path, settings: BenchSettings, command: str = "", watch: Callable[[BenchReport], None] = lambda _: None
) -> BenchReport:
    """Time the encoders in `folder`/{image,text}/{fp16,fp8}.onnx.

    Nothing that cannot run is an error: its rows say why. `watch` is given the report after each encoder.
    """
    reason = why_no_gpu()
    if reason is not None:
        return not_measured(folder.name, settings, reason, command, _encoders(folder))
    report = BenchReport(folder.name, _machine(None), command)
    rates = measure_rates()
    report.machine = _machine(rates)
    deadline = None if settings.seconds is None else time.monotonic() + settings.seconds
    for encoder in _encoders(folder):
        _Bench(folder / encoder, encoder, settings, rates, report, deadline).run()
        watch(report)
    return report


def not_measured(
    name: str, settings: BenchSettings, reason: str, command: str, encoders: Sequence[str] = ENCODERS
) -> BenchReport:
    """What is reported where nothing can be timed, for this reason."""
    rows = [row for encoder in encoders for row in _not_run(encoder, settings, reason)]
    return BenchReport(name, _machine(None), command, rows)


def why_no_gpu() -> str | None:
    """Why nothing can be timed on this machine; None when it can."""
    import torch

    if not torch.cuda.is_available():
        return "no CUDA device is visible to PyTorch"
    return None


def _why_not(target: str) -> str | None:
    """Why a target cannot run here."""
    import torch

    if target == "torch-fp8":
        major, minor = torch.cuda.get_device_capability()
        return None if (major, minor) >= (8, 9) else f"sm{major}{minor} has no FP8 arithmetic (8.9 or newer has)"
    return f"the bench does not time engines of {target} yet: `clipsmith optimize --targets {target}` does"


def _encoders(folder: Path) -> list[str]:
    return [encoder for encoder in ENCODERS if any((folder / encoder / f"{p}.onnx").exists() for p in PRECISIONS)]


def _planned(settings: BenchSettings) -> list[tuple[str, Precision]]:
    baselines: list[tuple[str, Precision]] = [(name, "fp16") for name in settings.baselines]
    return baselines + [(target, precision) for target in settings.targets for precision in PRECISIONS]


def _not_run(encoder: str, settings: BenchSettings, reason: str) -> Iterator[BenchRow]:
    for batch in settings.batches:
        for target, precision in _planned(settings):
            yield BenchRow(encoder, precision, target, batch, "not run", note=reason)


class _Bench:
    """One encoder."""

    def __init__(
        self,
        folder: Path,
        encoder: str,
        settings: BenchSettings,
        rates: DeviceRates,
        report: BenchReport,
        deadline: float | None,
    ) -> None:
        self.folder = folder
        self.encoder = encoder
        self.settings = settings
        self.rates = rates
        self.report = report
        self.deadline = deadline

    def run(self) -> None:
        import torch

        variants: list[_Variant] = []
        with torch.no_grad():
            for target, precision in _planned(self.settings):
                try:
                    variants.append(self._variant(target, precision))
                except (ClipsmithError, RuntimeError) as error:
                    self._refuse(target, precision, " ".join(str(error).split())[:400])
            for batch in self.settings.batches if variants else ():
                self._time(batch, variants)
        torch._dynamo.reset()
        torch.cuda.empty_cache()

    def _refuse(self, target: str, precision: Precision, reason: str) -> None:
        rows = (BenchRow(self.encoder, precision, target, b, "not run", note=reason) for b in self.settings.batches)
        self.report.rows.extend(rows)

    # --- making variants

    def _variant(self, target: str, precision: Precision) -> _Variant:
        import torch

        from tasks.bench.compiled import compile_encoder
        from tasks.bench.torch_graph import load

        path = self.folder / f"{precision}.onnx"
        own = target == "torch-fp8"
        reason = _why_not(target) if target in self.settings.targets else None
        if reason is not None or not path.exists() or self._late():
            raise ClipsmithError(reason or ("the time is up" if self._late() else f"there is no {path.name}"))
        kernels = own and torch.cuda.get_device_capability() >= _HOPPER
        loaded = load(path, _DEVICE, kernels=kernels)
        call: Callable[..., Any] = loaded.module if target == "torch-eager" else compile_encoder(loaded.module)
        make: Callable[..., Run] = partial(plain if target == "torch-eager" else capture, call)
        return _Variant(target, precision, loaded, make, call, self._cosine(path, loaded, call))

    def _cosine(self, path: Path, loaded: Loaded, call: Callable[..., Any]) -> float:
        """The least cosine against the file computed node by node; also what compiles the encoder."""
        from tasks.bench.torch_graph import load

        inputs = _on_device(random_inputs(loaded.graph, _CHECKED, seed=0))
        expected = load(path, _DEVICE, fused=False).module(*inputs)
        return float(cosine(call(*inputs).float().cpu().numpy(), expected.float().cpu().numpy()).min())

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    # --- timing

    def _time(self, batch: int, variants: Sequence[_Variant]) -> None:
        import torch

        if self._late():
            rows = (
                BenchRow(self.encoder, v.precision, v.target, batch, "not run", note="the time is up") for v in variants
            )
            self.report.rows.extend(rows)
            return
        graph = variants[0].loaded.graph
        seeds = range(1, self.settings.timing.input_sets + 1)
        sets = [_on_device(random_inputs(graph, batch, seed)) for seed in seeds]
        idle = _when_idle()
        runs = {f"{v.target} {v.precision}": v.make(sets) for v in variants}
        steady = warm_up(runs)
        times = interleave(runs, self.settings.timing)
        both = {name: with_transfers(run, sets) for name, run in runs.items()}
        warm_up(both)
        whole = interleave(both, replace(self.settings.timing, seconds=self.settings.timing.seconds / 3))
        for variant in variants:
            name = f"{variant.target} {variant.precision}"
            found = self._evidence(batch, variant, runs[name])
            row = self._row(batch, variant, np.concatenate(times[name]), found, idle, runs[name])
            fp16 = times.get(f"{variant.target} fp16")
            if variant.precision == "fp8" and fp16 is not None and row.status == "measured":
                speedup, low, high = ratio_interval(_medians(fp16), _medians(times[name]))
                row = replace(row, speedup=speedup, speedup_low=low, speedup_high=high)
            end_to_end = float(np.median(np.concatenate(whole[name])))
            self.report.rows.append(replace(row, end_to_end_ms=end_to_end, steady=steady))
        del runs, both, sets
        torch.cuda.empty_cache()

    def _evidence(self, batch: int, variant: _Variant, run: Run) -> Evidence:
        found = weigh(profile(run), variant.loaded.graph, variant.loaded.plan)
        if batch == max(self.settings.batches):
            self.report.evidence.append(EncoderEvidence(self.encoder, variant.precision, variant.target, batch, found))
        return found

    def _row(
        self,
        batch: int,
        variant: _Variant,
        times: NDArray[np.float64],
        evidence: Evidence,
        idle: GpuState | None,
        run: Run,
    ) -> BenchRow:
        loaded, temperature, power = _under_load(run)
        doubt = why_invalid(idle, loaded)
        products = count_products(variant.loaded.graph, batch)
        limit = limit_seconds(products, self.rates, attention_fp8=evidence.fp8_attention_share > 0) * 1e3
        p50, p95, p99 = (float(np.percentile(times, q)) for q in (50, 95, 99))
        return BenchRow(
            encoder=self.encoder,
            precision=variant.precision,
            target=variant.target,
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
            cosine=variant.cosine,
            fp8_gemm_share=evidence.fp8_gemm_share,
            fp8_attention_share=evidence.fp8_attention_share,
            note=doubt,
        )


def _medians(blocks: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array([np.median(block) for block in blocks])


def _on_device(feed: Mapping[str, NDArray[Any]]) -> list[torch.Tensor]:
    import torch

    return [torch.from_numpy(values).to(_DEVICE) for values in feed.values()]


def _when_idle() -> GpuState | None:
    """A reading without our own work."""
    import torch

    torch.cuda.synchronize()
    return settled(read_gpu_state)


def _under_load(run: Run) -> tuple[GpuState | None, int | None, float | None]:
    """Clock and throttling, degrees and watts while the device is busy with this."""
    import torch

    deadline = time.monotonic() + 0.2
    count = 0
    while time.monotonic() < deadline:
        for _ in range(10):
            run(count)
            count += 1
        torch.cuda.current_stream().synchronize()
    for _ in range(10):
        run(count)
    state = read_gpu_state()
    temperature, power = torch.cuda.temperature(), torch.cuda.power_draw() / 1e3
    torch.cuda.synchronize()
    return state, int(temperature), float(power)


def _machine(rates: DeviceRates | None) -> Machine:
    import torch

    cuda = torch.cuda.is_available()
    return Machine(
        gpu=torch.cuda.get_device_name() if cuda else None,
        capability="sm{}{}".format(*torch.cuda.get_device_capability()) if cuda else None,
        driver=driver_version() if cuda else None,
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        fp16_flops=rates.fp16 if rates else None,
        fp8_flops=rates.fp8 if rates else None,
        bandwidth=rates.bandwidth if rates else None,
    )
