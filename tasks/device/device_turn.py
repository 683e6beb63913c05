"""One device is used by one benchmark at a time: two at once would measure each other.

A turn is a lock of the host, always, and a global limit of the Prefect server where there is one, which also counts for
containers that do not share the host's files.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from prefect.settings import get_current_settings

from artifacts.errors import DeviceTurnError
from artifacts.locks import is_at, try_lock
from tasks.device.gpu import gpu_name
from tasks.device.gpu_state import gpu_uuid
from tasks.device.server_turn import server_slot
from tasks.runs.run_log import say

EMBEDDED_API = "CLIPSMITH_EMBEDDED_API"
"""Environment variable: the address of an API that lives as long as one command, and so has nobody to share with."""
CPU, GPU = "cpu", "gpu"
_FOLDER = Path("/tmp") if os.access("/tmp", os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
"""The same for every process of the host, whatever its user, HOME or TMPDIR."""


def device_key(device: str) -> str:
    """The key of a device that a backend names: `gpu-<UUID>`, `gpu` where the driver does not tell, or `cpu`."""
    if device != gpu_name():
        return CPU
    uuid = gpu_uuid()
    return GPU if uuid is None else f"{GPU}-{uuid.removeprefix('GPU-').lower()}"


@contextmanager
def device_turn(key: str) -> Iterator[None]:
    """Wait until nobody else benchmarks on the device `key`, and keep others from it for the block.

    A holder that is killed blocks nobody: the kernel frees the host's lock at once, and the next holder on this host
    gives back the slot on the server. Other hosts miss its signs of life (see `tasks.device.server_turn`).

    A server that goes away during the block costs nothing: what is measured is kept, Prefect warns that the slot is
    lost, and on this host the lock still holds.

    No deadlock: a latency step takes its step lock, then this; nobody who has a turn waits for a step or another turn.

    Raises:
        DeviceTurnError: the lock's file or the server's limit cannot be used; nothing has been measured yet.
    """

    @cache
    def waiting() -> None:
        """Say once that we wait."""
        say(f"another benchmark is using the {key.partition('-')[0].upper()}: waiting")

    with _host_lock(key, waiting) as file:
        api = _server()
        if api is None:
            yield
            return
        with server_slot(_limit_name(key), api, file, waiting):
            yield


# --- the host --------------------------------------------------------------------------------------------


@contextmanager
def _host_lock(key: str, waiting: Callable[[], None]) -> Iterator[int]:
    """The lock's file, open and locked."""
    path = _FOLDER / f"clipsmith-{key}.lock"
    while True:
        file = _open(path)
        try:
            if not try_lock(file):
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            if is_at(file, path):  # else somebody cleaned up while we waited, and others lock another file
                yield file
                return
        finally:
            os.close(file)


def _open(path: Path) -> int:
    try:
        while True:
            try:
                # Not O_CREAT: in /tmp the kernel may refuse that for a file of another user.
                return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                _create(path)
    except OSError as error:
        raise DeviceTurnError(
            f"the lock that keeps benchmarks apart cannot be used: {error.strerror}",
            where=path,
            expected="a file that every user of this machine may write, or nothing there",
            fix="remove what is there, and see that new files can be made in this folder",
        ) from error


def _create(path: Path) -> None:
    """Make the file so that all users may write it from the moment that it has its name."""
    file, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        os.fchmod(file, 0o666)
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.close(file)
        os.unlink(name)


# --- the server ------------------------------------------------------------------------------------------


def _server() -> str | None:
    """The address of a server that others use as well; None without one."""
    url = get_current_settings().api.url
    return None if url == os.environ.get(EMBEDDED_API) else url


def _limit_name(key: str) -> str:
    return f"clipsmith-{key}" if key.startswith(f"{GPU}-") else f"clipsmith-{key}-{socket.gethostname()}"
