"""Timing several engines against each other, with the same random input, round by round in alternating order."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from artifacts.prefect_forms import FormModel
from tasks.clip.base import MASK, EncoderSpec, made_up_tokens

MIN_ROUNDS = 3
_SEED = 7
Name = TypeVar("Name", bound=str)


class LatencySettings(FormModel):
    """What to time, and when to stop: after the rounds or the seconds, whichever comes first."""

    batches: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        default=[1, 8], min_length=1, title="Batch sizes", description="Each within the batch profile."
    )
    rounds: int = Field(
        default=100, ge=MIN_ROUNDS, le=10_000, description="At most so many timed rounds per batch size."
    )
    seconds: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description=f"At most so many seconds per batch size, but {MIN_ROUNDS} rounds at least.",
    )


def random_feed(spec: EncoderSpec, batch: int) -> dict[str, NDArray[Any]]:
    """Random pixels and token ids for a batch. Latency hardly depends on the values, but zeros would be too easy."""
    rng = np.random.default_rng(_SEED)
    feed: dict[str, NDArray[Any]] = {}
    for item in spec.inputs:
        if item.dtype == "float16":
            feed[item.name] = rng.standard_normal((batch, *item.shape)).astype(np.float16)
        elif item.name == MASK:
            feed[item.name] = np.ones((batch, *item.shape), np.int64)
        else:
            feed[item.name] = made_up_tokens(rng, (batch, *item.shape))
    return feed


def interleaved(
    runners: Mapping[Name, Any], feed: dict[str, NDArray[Any]], settings: LatencySettings
) -> dict[Name, NDArray[np.float64]]:
    """Milliseconds per round (rounds,), by runner, after one warm-up call each; the order of runners alternates."""
    for runner in runners.values():
        runner.infer(feed)
    times: dict[Name, list[float]] = {name: [] for name in runners}
    order = list(runners)
    deadline = time.perf_counter() + settings.seconds
    for round_ in range(settings.rounds):
        if round_ >= MIN_ROUNDS and time.perf_counter() > deadline:
            break
        for name in order if round_ % 2 == 0 else reversed(order):
            runners[name].infer(feed)
            times[name].append(runners[name].last_inference_time() * 1e3)
    return {name: np.array(values) for name, values in times.items()}
