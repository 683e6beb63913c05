"""Locks between processes of one host by flock(2): the kernel frees them when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from artifacts import fs, waiting
from artifacts.errors import StoreBusy

_POLL_S, _SLOW_POLL_S = 0.02, 0.1
_clock, _sleep = time.monotonic, time.sleep


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold `path` together with other `shared` holders, and keep `exclusive` holders out. It is opened read-only."""
    with _held(path, fcntl.LOCK_SH, None):
        yield


@contextmanager
def exclusive(path: Path, timeout_s: float | None = None) -> Iterator[None]:
    """Hold `path` alone.

    Raises:
        StoreBusy: others held it for all of `timeout_s` seconds (None: wait as long as it takes).
    """
    with _held(path, fcntl.LOCK_EX, timeout_s):
        yield


@contextmanager
def _held(path: Path, kind: int, timeout_s: float | None) -> Iterator[None]:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not wait(handle, path, "the store", kind=kind, timeout_s=timeout_s):
            found = waiting.holders(handle)
            raise StoreBusy(
                f"the store was in use for all of {timeout_s:g} s, by {waiting.in_words(found)}",
                where=path,
                fix="try again once the exports, copies or publishers that hold it are done",
            )
        yield
    finally:
        os.close(handle)


def wait(
    handle: int,
    path: Path,
    what: str,
    *,
    kind: int = fcntl.LOCK_EX,
    timeout_s: float | None = None,
    say: waiting.Say = waiting.warn,
) -> bool:
    """Lock an open file (of `path`); return False if others held it for all of `timeout_s` seconds (None: no limit).

    `say` reports the wait: see `artifacts.waiting`. Taking an exclusive lock sets the file's modification time to now.
    """
    current, started = waiting.Waiting(handle, path, what, say), _clock()
    while not try_lock(handle, kind):
        waited = _clock() - started
        if timeout_s is not None and waited >= timeout_s:
            return False
        current.look(waited)
        _sleep(_POLL_S if waited < waiting.SAY_AFTER_S else _SLOW_POLL_S)
    if kind == fcntl.LOCK_EX:
        with suppress(OSError):  # the file is another user's, or the disk cannot be written
            os.utime(handle)
    return True


def try_lock(handle: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file unless others hold it; return whether it was locked."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Lease:
    """What one living process holds in a store: a locked file that lists the names, one per line.

    Create it, and add to it, only while holding the store's own lock shared, so that the collector, which holds that
    lock exclusively, sees all of it. It ends with `close`, with the process, or when it is garbage-collected.
    """

    def __init__(self, folder: Path) -> None:
        self.id = uuid.uuid4().hex
        self.path = folder / self.id
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        self._names: set[str] = set()
        self._mutex = threading.Lock()
        self.close = weakref.finalize(self, _end, self._handle, self.path, os.getpid())

    def hold(self, names: Iterable[str]) -> None:
        """Add names; those already there are not written again."""
        with self._mutex:
            new = sorted(set(names) - self._names)
            if new:
                self._append("".join(f"{name}\n" for name in new).encode())
                self._names |= set(new)

    def _append(self, data: bytes) -> None:
        """Append all of `data` or nothing: a name that is cut off protects nothing."""
        before = os.fstat(self._handle).st_size
        try:
            while data:
                data = data[os.write(self._handle, data) :]
        except OSError:
            os.ftruncate(self._handle, before)
            raise


def _end(handle: int, path: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child shares the lock and must not end it
        fs.unlink(path)
    os.close(handle)


def living(folder: Path) -> dict[str, frozenset[str]]:
    """The leases in `folder` whose processes live, with the names they hold. Call it while holding the store alone."""
    found: dict[str, frozenset[str]] = {}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # its process has just ended
            if not is_free(path):
                found[path.name] = frozenset(path.read_text().split())
    return found


def is_free(path: Path) -> bool:
    """Whether nobody holds a lock on this file; True for a file that is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return try_lock(handle)
    finally:
        os.close(handle)


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`: after a wait, its lock may be that of a removed file."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def remove_if_free(path: Path) -> bool:
    """Lock and remove a lock file that nobody holds. Processes that wait for it must check `is_at` afterwards."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # its holder removed it
        return False
    try:
        free = try_lock(handle)
        if free:
            fs.unlink(path)
        return free
    finally:
        os.close(handle)
