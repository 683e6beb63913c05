"""Step 8: latency of the engines that can run here, with FP8 and FP16 interleaved round by round.

Interleaving keeps the comparison valid when the machine's speed drifts; the ratio is bootstrapped over rounds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifacts import places
from artifacts.manifest import Encoder, Precision, Row
from artifacts.refs import ArtifactRef
from artifacts.schema import EMULATED, INVALID, MEASURED, NOT_RUN, new_row
from artifacts.store.store import active_store
from tasks.checkpoints.snapshot import Snapshot
from tasks.clip.base import EncoderSpec
from tasks.device.device_turn import device_key, device_turn
from tasks.device.gpu_state import GpuState, when_idle, why_invalid
from tasks.device.interleaved import LatencySettings, interleaved, random_feed
from tasks.engines import Backend, backend_for
from tasks.engines.onnx_runtime import cpu_name
from tasks.evaluation.metrics import ratio_interval
from tasks.families import family_named
from tasks.file_names import engine_name
from tasks.pipeline.kept import keep
from tasks.runs.steps import StepOutput, cached_step, measured


class Latency(StepOutput):
    """Rows of the latency table; `samples` holds `latencies.json`: ms per round, by
    "<encoder> <precision> <target> batch <n>"."""

    rows: tuple[Row, ...]
    samples: ArtifactRef


def measure(
    snapshot: Snapshot,
    encoder: Encoder,
    target: str,
    engines: Mapping[Precision, ArtifactRef],
    settings: LatencySettings,
) -> Latency:
    """Time the engines of one encoder on one target, or say why they cannot run on this machine.

    The step's recorded cost does not include waiting for the device.

    Raises:
        DeviceTurnError: it cannot be known whether another benchmark uses the device.
        EngineMismatch, ObjectDamaged: an engine was not built for this machine, or has changed since.
    """
    backend = backend_for(target)
    reason = backend.why_not_run(target)
    if reason is not None:
        with measured() as meter:
            rows = [
                new_row(
                    "latency", encoder=encoder, target=target, precision=p, batch=batch, status=NOT_RUN, note=reason
                )
                for p in engines
                for batch in settings.batches
            ]
            samples = keep("latencies", {places.LATENCIES: "{}"})
        return Latency(rows=tuple(rows), samples=samples, stats=meter.stats)
    with device_turn(device_key(backend.device())):
        idle = when_idle(backend.state)
        with measured() as meter:
            meter.on("cpu" if backend.device() == cpu_name() else backend.device())
            spec = family_named(snapshot.family).encoder_spec(snapshot.config, encoder)
            rows, raw = _time_all(spec, target, engines, settings, idle)
            samples = keep("latencies", {places.LATENCIES: json.dumps(raw)})
    return Latency(rows=tuple(rows), samples=samples, stats=meter.stats)


def _time_all(
    spec: EncoderSpec,
    target: str,
    engines: Mapping[Precision, ArtifactRef],
    settings: LatencySettings,
    idle: GpuState | None,
) -> tuple[list[Row], dict[str, list[float]]]:
    """Table rows, and milliseconds per round; `idle` is the device's state before any work."""
    backend, store = backend_for(target), active_store()
    rows: list[Row] = []
    raw: dict[str, list[float]] = {}
    with ExitStack() as stack:
        runners = {
            precision: stack.enter_context(
                backend.runner(store.path(ref, engine_name(precision, target)), f"{precision} {target}")
            )
            for precision, ref in engines.items()
        }
        for batch in settings.batches:
            load = round(os.getloadavg()[0], 2)
            times = interleaved(runners, random_feed(spec, batch), settings)
            loaded = backend.state()
            state: Row = {"device": backend.device(), "clock_mhz": _clock_mhz(loaded), "load": load}
            rows += _rows(spec.encoder, target, batch, times, backend, state, why_invalid(idle, loaded))
            for precision, values in times.items():
                raw[f"{spec.encoder} {precision} {target} batch {batch}"] = [round(v, 5) for v in values.tolist()]
    return rows, raw


def _rows(
    encoder: Encoder,
    target: str,
    batch: int,
    times: Mapping[Precision, NDArray[np.float64]],
    backend: Backend,
    state: Row,
    doubt: str | None,
) -> list[Row]:
    """Table rows; `state` is the machine's state, and `doubt` why the times are not valid (None: they are)."""
    emulated = {precision: backend.emulation(precision) for precision in times}
    rows = []
    for precision, values in times.items():
        p50, p95, p99 = (float(np.percentile(values, q)) for q in (50, 95, 99))
        row = new_row(
            "latency",
            encoder=encoder,
            target=target,
            precision=precision,
            batch=batch,
            status=INVALID if doubt else EMULATED if emulated[precision] else MEASURED,
            median_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            throughput=batch / p50 * 1e3,
            rounds=len(values),
            note=doubt or emulated[precision],
            **state,
        )
        if precision == "fp8" and "fp16" in times and not doubt and not any(emulated.values()):
            speedup, low, high = ratio_interval(times["fp16"], values)
            row |= {"speedup": speedup, "speedup_low": low, "speedup_high": high}
        rows.append(row)
    return rows


def _clock_mhz(loaded: GpuState | None) -> float | None:
    """The GPU's clock under load, else the CPU's mean current clock, in MHz; None if the kernel does not tell."""
    if loaded is not None:
        return float(loaded.clock_mhz)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    clocks = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return round(float(np.mean(clocks)), 1) if clocks else None


@cached_step("latency", version=3, packages=("onnxruntime", "tensorrt", "tensorrt-rtx", "polygraphy"))
def latency_task(
    snapshot: Snapshot,
    encoder: Encoder,
    target: str,
    engines: dict[Precision, ArtifactRef],
    settings: LatencySettings,
    device: str,
) -> Latency:
    """`device` is what the engines run on; it is part of the cache key."""
    del device
    return measure(snapshot, encoder, target, engines, settings)
