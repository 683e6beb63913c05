"""Latency of two engines of different releases, interleaved round by round on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.manifest import Precision, Row
from artifacts.refs import ArtifactRef
from artifacts.schema import EMULATED, INVALID, MEASURED
from artifacts.store.store import active_store
from tasks.clip.base import EncoderSpec
from tasks.device.device_turn import device_key, device_turn
from tasks.device.gpu_state import when_idle, why_invalid
from tasks.device.interleaved import LatencySettings, interleaved, random_feed
from tasks.engines import Backend, backend_for
from tasks.evaluation.metrics import ratio_interval
from tasks.file_names import engine_name

Pair = Mapping[str, tuple[Precision, ArtifactRef]]
"""The engines by "before" and "after"."""


def latency_rows(
    spec: EncoderSpec, target: str, pair: Pair, batches: list[int], settings: LatencySettings
) -> list[Row]:
    """Time both engines at these batch sizes; a ratio is given only if both times are valid and not emulated.

    Raises:
        DeviceTurnError: it cannot be known whether another benchmark uses the device.
        EngineMismatch, ObjectDamaged: an engine was not built for this machine, or has changed since.
    """
    backend, store = backend_for(target), active_store()
    rows = []
    with device_turn(device_key(backend.device())), ExitStack() as stack:
        idle = when_idle(backend.state)
        runners: dict[str, Any] = {}
        for side, (precision, ref) in pair.items():
            runner = backend.runner(store.path(ref, engine_name(precision, target)), f"{side} {precision} {target}")
            runners[side] = stack.enter_context(runner)
        for batch in batches:
            times = interleaved(runners, random_feed(spec, batch), settings)
            doubt = why_invalid(idle, backend.state())
            rows.append(blank_row(spec.encoder, target, batch) | _timed(backend, pair, times, doubt))
    return rows


def _timed(backend: Backend, pair: Pair, times: dict[str, NDArray[np.float64]], doubt: str | None) -> Row:
    emulated = next((why for why in (backend.emulation(precision) for precision, _ in pair.values()) if why), None)
    row: Row = {
        "status": INVALID if doubt else EMULATED if emulated else MEASURED,
        "before_ms": float(np.median(times["before"])),
        "after_ms": float(np.median(times["after"])),
        "rounds": len(times["after"]),
        "device": backend.device(),
        "note": doubt or emulated,
    }
    if not doubt and not emulated:
        speedup, low, high = ratio_interval(times["before"], times["after"])
        row |= {"speedup": speedup, "low": low, "high": high}
    return row


def blank_row(encoder: str, target: str, batch: int | None, status: str = "", note: str | None = None) -> Row:
    """A row without times; `note` may say why."""
    about: Row = {"encoder": encoder, "target": target, "batch": batch, "status": status}
    numbers = dict.fromkeys(("before_ms", "after_ms", "speedup", "low", "high", "rounds", "device"))
    return about | numbers | {"note": note}
