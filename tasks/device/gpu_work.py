"""Work on the GPU beside the work of others: while nobody benchmarks on it, and in memory that is asked for first."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from artifacts.number_words import megabytes
from artifacts.waiting import SAY_AFTER_S
from tasks.device.device_turn import device_key, host_lock, while_nobody_benchmarks
from tasks.device.gpu import torch_gpu
from tasks.runs.run_log import say

_POLL_S = 0.2
_SHARE = 0.9
"""Of the GPU's memory: what asks for more than this gets this, alone."""
_PATIENCE_S = 600.0
"""Then the block begins without: what is asked for is rather too much, and another program may never end."""
_clock = time.monotonic
_mutex = threading.Lock()
_kept = 0
"""Bytes that blocks of this process have been given."""


@contextmanager
def gpu_work(need: int) -> Iterator[None]:
    """Run the block once `need` bytes of the GPU's memory are free, and nobody benchmarks on it.

    The memory is taken from the GPU at once, so that no other process gets it, and stays in PyTorch's pool for the
    block. After ten minutes the block begins with what is free. Without a GPU that PyTorch sees, the block just runs.
    Blocks must not be nested: whoever waits for a benchmark keeps out the inner one, and waits for the outer one.

    Raises:
        DeviceTurnError: a lock's file cannot be used.
    """
    name = torch_gpu()
    if name is None:
        yield
        return
    key = device_key(name)
    with while_nobody_benchmarks(key), _memory(key, need):
        yield


@contextmanager
def _memory(key: str, need: int) -> Iterator[None]:
    global _kept
    need = min(need, int(_SHARE * _total()))
    since, said = _clock(), False
    while not _taken(key, need):
        if _clock() - since >= _PATIENCE_S:
            say(f"{megabytes(need, 0)} of the GPU's memory are still not free: going on with what there is")
            need = 0
            break
        if not said and _clock() - since >= SAY_AFTER_S:
            said = True
            say(
                f"waiting for {megabytes(need, 0)} of the GPU's memory: other work on it has to end first; Ctrl-C, or "
                "cancelling the run, stops waiting"
            )
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        with _mutex:
            _kept -= need
            if not _kept:
                _give_back()


def _taken(key: str, need: int) -> bool:
    """Whether the process has the memory now: one process at a time looks, and takes what it found."""
    global _kept
    with _mutex, host_lock(f"{key}-memory", f"a look at the memory of the {key.partition('-')[0].upper()}"):
        missing = _kept + need - _pooled()
        if missing > _free() or (missing > 0 and not _grown(missing)):
            return False
        _kept += need
        return True


# --- PyTorch's pool: what it has got from the GPU and not given back ---------------------------------------


def _total() -> int:
    import torch

    return torch.cuda.get_device_properties().total_memory


def _free() -> int:
    import torch

    return torch.cuda.mem_get_info()[0]


def _pooled() -> int:
    import torch

    return torch.cuda.memory_reserved()


def _grown(more: int) -> bool:
    """Let the pool have so many bytes more; whether it has."""
    import torch

    try:
        torch.empty(more, dtype=torch.uint8, device="cuda")
    except torch.OutOfMemoryError:  # another program was quicker
        return False
    return True


def _give_back() -> None:
    import torch

    torch.cuda.empty_cache()
