"""Latency on a GPU: CUDA graphs are replayed on rotating inputs and timed with events; variants alternate in rounds.

A large GPU under full load runs at its power limit, and lowers its clock more for variants that need more power. If
single runs alternated, every variant would be timed at the clock of the mixture: on an H100, FP8 would run at the lower
clock that FP16 causes. So each round gives each variant a block of time, and timing starts after the clock has settled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import ClipsmithError

if TYPE_CHECKING:
    import torch

_STEADY = 0.01
"""Warm-up ends when the medians of two consecutive windows differ by less than this share."""
_WINDOW = 10
_MAX_WARM_UP_S = 3.0
_MIN_ROUNDS = 3
_MIN_RUNS = 3
"""The fewest runs of a block, however long one takes."""
_CAPTURE_CALLS = 3
"""Calls before a capture, inside which lazy initialisation (such as of a library's workspace) must not happen."""
Name = TypeVar("Name", bound=str)
CaptureMode = Literal["global", "thread_local"]
Run = Callable[[int], Any]
"""Runs a variant once on the input set with this index (modulo their number), and returns its output on the device."""


@dataclass(frozen=True)
class TimingSettings:
    """When to stop: after the rounds or the seconds (per batch size), whichever comes first; at least 3 rounds."""

    rounds: int = 12
    seconds: float = 8.0
    block_s: float = 0.2
    """Seconds in each round for which each variant runs untimed to settle, and then again timed."""
    input_sets: int = 4
    """The number of random inputs to rotate among, so that a run's input is not in the cache from the run before."""


def capture(module: Callable[..., Any], sets: Sequence[Sequence[Any]], mode: CaptureMode = "global") -> Run:
    """Capture one CUDA graph per input set; inputs stay on the device, and replaying needs no launches from Python.

    The graphs share one memory pool, as only one runs at a time. `mode` says whose unsafe calls end a capture: those of
    all threads, or only of this one.
    """
    import torch

    graphs, outputs = [], []
    pool = None
    for inputs in sets:
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_CAPTURE_CALLS):
                module(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph, pool=pool, capture_error_mode=mode):
            outputs.append(module(*inputs))
        pool = pool or graph.pool()
        graphs.append(graph)

    def replay(index: int) -> torch.Tensor:
        chosen = index % len(sets)  # keeps `sets` alive, which the graphs read
        graphs[chosen].replay()
        return outputs[chosen]

    return replay


def capture_if_possible(call: Callable[..., Any], sets: Sequence[Sequence[Any]]) -> tuple[Run, str | None]:
    """As `capture`, or as `plain` with the reason why it could not be captured.

    It is for foreign code that may use its own streams or wait for the device, which ends a capture.
    """
    import torch

    try:
        with torch.cuda.stream(torch.cuda.current_stream()):  # restores the current stream after a failed capture
            return capture(call, sets, "thread_local"), None
    except (ClipsmithError, RuntimeError) as error:
        torch.cuda.synchronize()
        return plain(call, sets), " ".join(str(error).split())


def plain(module: Callable[..., Any], sets: Sequence[Sequence[Any]]) -> Run:
    """A run that calls the module from Python each time, as eager PyTorch does."""
    return lambda index: module(*sets[index % len(sets)])


def with_transfers(run: Run, sets: Sequence[Sequence[torch.Tensor]]) -> Run:
    """A run that also copies the inputs from pinned host memory and the output to it; returns the output there."""
    host = [[_pinned(tensor) for tensor in inputs] for inputs in sets]
    results = [_pinned(run(index)) for index in range(len(sets))]

    def timed(index: int) -> torch.Tensor:
        chosen = index % len(sets)
        for target, source in zip(sets[chosen], host[chosen], strict=True):
            target.copy_(source, non_blocking=True)
        return results[chosen].copy_(run(index), non_blocking=True)

    return timed


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in page-locked host memory, which the device reads and writes directly."""
    return tensor.cpu().pin_memory()


def milliseconds(run: Run, index: int) -> float:
    """The time of one run in ms, by CUDA events."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    run(index)
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def warm_up(runs: Mapping[Name, Run], timer: Callable[[Run, int], float] = milliseconds) -> bool:
    """Run until the times are steady; return False if they did not become steady within the time limit."""
    deadline = time.monotonic() + _MAX_WARM_UP_S
    before: dict[Name, float] = {}
    while time.monotonic() < deadline:
        now = {n: float(np.median([timer(run, i) for i in range(_WINDOW)])) for n, run in runs.items()}
        if before and all(abs(now[n] - before[n]) <= _STEADY * before[n] for n in runs):
            return True
        before = now
    return False


def interleave(
    runs: Mapping[Name, Run], settings: TimingSettings, timer: Callable[[Run, int], float] = milliseconds
) -> dict[Name, list[NDArray[np.float64]]]:
    """Milliseconds of each run, by variant: one block (array) per round; the order of variants alternates."""
    blocks: dict[Name, list[NDArray[np.float64]]] = {name: [] for name in runs}
    order = list(runs)
    deadline = time.monotonic() + settings.seconds
    for round_ in range(settings.rounds):
        if round_ >= _MIN_ROUNDS and time.monotonic() > deadline:
            break
        for name in order if round_ % 2 == 0 else reversed(order):
            _block(runs[name], settings.block_s, timer)
            blocks[name].append(_block(runs[name], settings.block_s, timer))
    return blocks


def _block(run: Run, seconds: float, timer: Callable[[Run, int], float]) -> NDArray[np.float64]:
    """Time as many runs as fit into `seconds`, on rotating inputs."""
    times: list[float] = []
    deadline = time.monotonic() + seconds
    while len(times) < _MIN_RUNS or time.monotonic() < deadline:
        times.append(timer(run, len(times)))
    return np.array(times)
