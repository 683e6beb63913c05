"""Of several runs in one process, one computes at a time; the others may wait for processes of their own.

ModelOpt replaces functions of PyTorch's modules while it works, and transformers fills its own modules when they are
first asked for: threads that do that together see each other's halves.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_computing = threading.Lock()
_mine = threading.local()


@contextmanager
def computing() -> Iterator[None]:
    """Run the block while no other thread is in such a block, except where that one waits `elsewhere`."""
    with _computing:
        _mine.held = True
        try:
            yield
        finally:
            _mine.held = False


@contextmanager
def elsewhere() -> Iterator[None]:
    """Let others compute while the block waits for other processes; outside of `computing` it is just run."""
    if not getattr(_mine, "held", False):
        yield
        return
    _mine.held = False
    _computing.release()
    try:
        yield
    finally:
        _computing.acquire()
        _mine.held = True
