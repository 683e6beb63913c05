"""Timing several engines against each other: the same random input, round by round, in alternating order."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.clip import MASK, EncoderSpec
from tasks.latency import MIN_ROUNDS, LatencySettings

_SEED = 7


def random_feed(spec: EncoderSpec, batch: int) -> dict[str, NDArray[Any]]:
    """Random pixels and random token ids: latency does not depend on the values, but zeros would flatter caches."""
    rng = np.random.default_rng(_SEED)
    feed: dict[str, NDArray[Any]] = {}
    for item in spec.inputs:
        if item.dtype == "float16":
            feed[item.name] = rng.standard_normal((batch, *item.shape)).astype(np.float16)
        elif item.name == MASK:
            feed[item.name] = np.ones((batch, *item.shape), np.int64)
        else:
            feed[item.name] = rng.integers(1, 100, size=(batch, *item.shape), dtype=np.int64)
    return feed


def interleaved(
    runners: Mapping[str, Any], feed: dict[str, NDArray[Any]], settings: LatencySettings
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds per round and runner, after one call each to warm up; the order within a round alternates."""
    for runner in runners.values():
        runner.infer(feed)
    times: dict[str, list[float]] = {name: [] for name in runners}
    order = list(runners)
    deadline = time.perf_counter() + settings.seconds
    for round_ in range(settings.rounds):
        if round_ >= MIN_ROUNDS and time.perf_counter() > deadline:
            break
        for name in order if round_ % 2 == 0 else reversed(order):
            runners[name].infer(feed)
            times[name].append(runners[name].last_inference_time() * 1e3)
    return {name: np.array(values) for name, values in times.items()}
