"""A lock per cache key for all processes of a host, which the kernel frees when its holder dies.

Prefect takes the lock before it looks for a cached result and frees it once the result is stored, so that a second run
waits, and then finds the first one's result. Prefect's own lock is a file that outlives a killed holder.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prefect.locking.protocol import LockManager

from artifacts.locks import is_at, wait
from artifacts.store.store import active_store
from tasks.runs.run_log import say

_WHAT = "the result of the next step, at which another run is"


@dataclass(frozen=True)
class _Held:
    """A lock that this process holds through an open file; `thread` is None if no single thread owns it."""

    file: int
    path: Path
    thread: int | None


# By key and holder. Global, not in a `StepLock`: cache policies are copied and pickled, which open files cannot be.
_held: dict[tuple[str, str], _Held] = {}


class StepLock(LockManager):
    """Locks the file `<key>` in the `locks/` folder of the active store; the file is removed when it is released."""

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Take the lock; False when it is not free within `acquire_timeout` seconds (None waits for ever)."""
        del hold_timeout  # a living holder never loses its lock
        _drop_left_over(key)
        return _acquire(key, holder, acquire_timeout, threading.get_ident())

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """As `acquire_lock`, waiting in a thread."""
        from anyio.to_thread import run_sync

        del hold_timeout
        return await run_sync(_acquire, key, holder, acquire_timeout, None)

    def release_lock(self, key: str, holder: str) -> None:
        """Free the lock; ValueError when `holder` does not hold it."""
        if not self.is_lock_holder(key, holder):
            raise ValueError(f"{holder} does not hold the lock of {key}")
        _release(key, holder)

    def is_locked(self, key: str) -> bool:
        """Whether this process holds the lock."""
        return any(held == key for held, _ in list(_held))

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder` holds the lock."""
        return (key, holder) in _held

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody else holds the lock; False when that takes longer than `timeout` seconds."""
        path = _path(key)
        if _mine(key, path):
            return True
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            return wait(file, path, _WHAT, timeout_s=timeout, say=say)
        finally:
            os.close(file)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """As `wait_for_lock`, waiting in a thread."""
        from anyio.to_thread import run_sync

        return await run_sync(self.wait_for_lock, key, timeout)


def _path(key: str) -> Path:
    return active_store().root / "locks" / key


def _mine(key: str, path: Path) -> list[str]:
    """The holders under which this thread holds the lock."""
    me = (path, threading.get_ident())
    return [holder for (held, holder), lock in list(_held.items()) if held == key and (lock.path, lock.thread) == me]


def _drop_left_over(key: str) -> None:
    """Free a lock that this thread still holds: Prefect forgets it if it cannot read the result it has just found."""
    for holder in _mine(key, _path(key)):
        _release(key, holder)


def _acquire(key: str, holder: str, timeout: float | None, thread: int | None) -> bool:
    path = _path(key)
    deadline = None if timeout is None else time.monotonic() + timeout
    path.parent.mkdir(mode=0o755, exist_ok=True)
    while (file := _lock(path, deadline)) is not None:
        if is_at(file, path):
            _held[key, holder] = _Held(file, path, thread)
            return True
        os.close(file)  # the last holder, or the collector, removed it while we waited
    return False


def _release(key: str, holder: str) -> None:
    """Remove the file, so that files do not pile up, and then unlock it: waiting processes see that it is gone."""
    held = _held.pop((key, holder))
    try:
        with suppress(OSError):
            held.path.unlink(missing_ok=True)
    finally:
        os.close(held.file)


def _lock(path: Path, deadline: float | None) -> int | None:
    """The file, open and locked; None if the deadline passed. The kernel frees the lock when the process dies."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if wait(file, path, _WHAT, timeout_s=None if deadline is None else deadline - time.monotonic(), say=say):
            return file
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None
