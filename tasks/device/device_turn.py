"""One device is used by one benchmark at a time, and then by nobody else of ours: two at once would measure each other.

Holding the device is here called a turn. It is a lock file of the host and, if there is a Prefect server, a global
concurrency limit of the server, which also covers containers that do not share the host's files.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from prefect.settings import get_current_settings

from artifacts.errors import DeviceTurnError
from artifacts.locks import is_at, wait
from artifacts.waiting import SAY_AFTER_S
from tasks.device.gpu import gpu_name
from tasks.device.gpu_state import gpu_uuid
from tasks.device.server_turn import SILENCE_S, server_slot
from tasks.runs.run_log import say

EMBEDDED_API = "CLIPSMITH_EMBEDDED_API"
"""Environment variable: the URL of an API that lives only as long as one command, and so is not shared."""
CPU, GPU = "cpu", "gpu"
_clock = time.monotonic
_FOLDER = Path("/tmp") if os.access("/tmp", os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
"""The folder of lock files, the same for all processes of the host, whatever their user, HOME or TMPDIR."""
_MODE = 0o644
"""Everybody may read the file, which is enough to lock it."""


def device_key(device: str) -> str:
    """The key of a backend's device: `gpu-<UUID>`, `gpu` if the driver does not give the UUID, or `cpu`."""
    if device != gpu_name():
        return CPU
    uuid = gpu_uuid()
    return GPU if uuid is None else f"{GPU}-{uuid.removeprefix('GPU-').lower()}"


@contextmanager
def device_turn(key: str) -> Iterator[None]:
    """Wait until nobody else benchmarks on the device `key`, and keep others from it inside the block.

    A killed holder does not block others: the kernel frees the host's lock at once, and the next holder on this host
    returns the slot on the server. Other hosts notice missing heartbeats (see `tasks.device.server_turn`).

    If the server goes away during the block, the measurements are still valid: Prefect warns that the slot is lost, and
    the lock on this host still holds.

    There is no deadlock: a latency step takes its step lock first, and a holder of a turn never waits for a step or for
    another turn.

    Raises:
        DeviceTurnError: the lock file or the server's limit cannot be used; nothing has been measured yet.
    """
    with _in_line(key, _turn(key), fcntl.LOCK_EX) as file:
        api = _server()
        if api is None:
            yield
            return
        name = _limit_name(key)
        with server_slot(name, api, file, _Waiting(f"{_turn(key)} ({name} of {api})").say):
            yield


@contextmanager
def while_nobody_benchmarks(key: str) -> Iterator[None]:
    """Compute on the device `key` of this host, together with others that do, for the block.

    Raises:
        DeviceTurnError: a lock's file cannot be used.
    """
    with _in_line(key, f"the end of a benchmark on the {_device(key)}", fcntl.LOCK_SH):
        yield


@contextmanager
def _in_line(key: str, what: str, kind: int) -> Iterator[int]:
    """The device's lock, its file open. It is taken in the order of asking: those that share it would keep a benchmark
    waiting for as long as there is always one of them."""
    with ExitStack() as line:
        line.enter_context(host_lock(f"{key}-next", what))
        with host_lock(key, what, kind) as file:
            line.close()
            yield file


def _turn(key: str) -> str:
    return f"the turn to benchmark on the {_device(key)}"


def _device(key: str) -> str:
    return key.partition("-")[0].upper()


class _Waiting:
    """Reports once, after two seconds, that we wait for another host or container, which only the server can see."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._since: float | None = None
        self._said = False

    def say(self) -> None:
        """Report the wait if it is time; call this repeatedly."""
        self._since = _clock() if self._since is None else self._since
        if not self._said and _clock() - self._since >= SAY_AFTER_S:
            self._said = True
            say(
                f"waiting for {self._what}: held by a benchmark of another host or container, which loses it once it "
                f"has given no sign of life for {SILENCE_S:.0f} s; Ctrl-C, or cancelling the run, stops waiting"
            )


# --- the host --------------------------------------------------------------------------------------------


@contextmanager
def host_lock(name: str, what: str, kind: int = fcntl.LOCK_EX) -> Iterator[int]:
    """A lock that all users of this host see: its file, open and locked; `what` is said to be waited for.

    Raises:
        DeviceTurnError: the file cannot be used.
    """
    path = _FOLDER / f"clipsmith-{name}.lock"
    while True:
        file = _open(path)
        try:
            wait(file, path, what, kind=kind, say=say)
            if is_at(file, path):  # else the file was removed while we waited, and others lock a new one
                yield file
                return
        finally:
            os.close(file)


def _open(path: Path) -> int:
    try:
        while True:
            try:
                return _open_as_we_may(path)
            except FileNotFoundError:
                _create(path)
    except OSError as error:
        raise DeviceTurnError(
            f"the lock that keeps benchmarks apart cannot be used: {error.strerror}",
            where=path,
            expected="a file that every user of this machine may read, or nothing there",
            fix="remove what is there, and see that new files can be made in this folder",
        ) from error


def _open_as_we_may(path: Path) -> int:
    """Open the lock file for writing if it is ours, else for reading, which suffices to lock it; then no note about the
    server's slot can be left in it for the next holder."""
    # Without O_CREAT, which the kernel may refuse in /tmp for another user's file.
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        file = os.open(path, os.O_RDWR | flags)
    except PermissionError:
        return os.open(path, os.O_RDONLY | flags)
    with suppress(PermissionError):  # a file of an older version, which anybody may write
        os.fchmod(file, _MODE)
    return file


def _create(path: Path) -> None:
    """Create the lock file so that all users can read it from the moment it appears."""
    file, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        os.fchmod(file, _MODE)
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.close(file)
        os.unlink(name)


# --- the server ------------------------------------------------------------------------------------------


def _server() -> str | None:
    """The URL of a Prefect server that others use too; None if there is none."""
    url = get_current_settings().api.url
    return None if url == os.environ.get(EMBEDDED_API) else url


def _limit_name(key: str) -> str:
    return f"clipsmith-{key}" if key.startswith(f"{GPU}-") else f"clipsmith-{key}-{socket.gethostname()}"
