"""A turn on the device that threads of this process share: builders that time kernels may run side by side.

They hardly disturb each other: a builder compiles for a minute and times kernels for seconds of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context

from tasks.device.device_turn import device_turn

_lock = threading.Lock()
_held: dict[str, _Held] = {}


@contextmanager
def shared_turn(key: str) -> Iterator[None]:
    """As `device_turn`, but shared: if another thread of this process has the turn, the caller has it too.

    Raises:
        DeviceTurnError: as `device_turn`, in every thread that waits for it.
    """
    with _lock:
        held = _held.get(key)
        if held is None:
            held = _held[key] = _Held(key)
        held.users += 1
    try:
        held.taken.result()
        yield
    finally:
        with _lock:
            held.users -= 1
            last = held.users == 0
            if last:
                del _held[key]
        if last:
            held.release()


class _Held:
    """A thread that holds the turn until `release`, because Prefect's slot belongs to the thread that took it."""

    def __init__(self, key: str) -> None:
        self.users = 0
        self.taken: Future[None] = Future()
        self._key = key
        self._ended = threading.Event()
        # A daemon, so that a thread that still waits for the turn does not keep the process from ending.
        self._thread = threading.Thread(target=copy_context().run, args=(self._hold,), daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Return the turn, and wait until others can have it, unless it was never ours."""
        self._ended.set()
        if self.taken.done():
            self._thread.join()

    def _hold(self) -> None:
        try:
            with device_turn(self._key):
                self.taken.set_result(None)
                self._ended.wait()
        except BaseException as error:
            if self.taken.done():
                raise
            self.taken.set_exception(error)
