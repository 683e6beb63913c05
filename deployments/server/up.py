"""`clipsmith up`: a Prefect server with our deployments, and a worker, on one machine; all of them end together.

The server and the worker hold one end of a pipe whose other end is here: they end with this process, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from artifacts.errors import AlreadyUp, ApiNotReady, PortTaken, ProcessDied
from deployments.server import show_fleet
from deployments.server.apply import Replace, apply_all, load_flows
from deployments.server.child_process import end, server_problem
from deployments.server.definitions import POOL
from deployments.server.descendants import adopt_orphans, kill_descendants
from deployments.server.environment import prepare_up
from deployments.server.orphans import crash_orphans
from deployments.server.own_server import HOST, UP_LOCK
from deployments.server.prefect_settings import load_settings, require_api
from deployments.server.worker_process import worker_name

START_S = 60.0
"""How long the server, and then the worker, may take to start, in seconds."""
_STOP_S = {"server": 3.0, "worker": 5.0}
"""How long each may take to end before it is killed, in seconds; with the killing it takes less than 10 seconds."""


@dataclass(frozen=True)
class Child:
    """The process of the server or of the worker, with the pipe to it."""

    name: str
    process: subprocess.Popen[bytes]

    def go(self) -> None:
        """Tell the worker that the server answers. If the worker has died, the wait for it will notice."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            os.write(self.process.stdin.fileno(), b"1")

    def stop(self) -> None:
        """Close the pipe to the process, wait, and kill it if it takes too long."""
        end(self.process, _STOP_S[self.name])

    def require_alive(self) -> None:
        """Raise ProcessDied if the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise ProcessDied(
                f"the {self.name} has ended by itself (exit code {code}), so everything else was stopped",
                fix="see its messages above, then start `clipsmith up` again: nothing that was computed is lost",
            )


def address(port: int) -> str:
    """The URL of the UI."""
    return f"http://{HOST}:{port}"


def up(port: int, *, auth: bool = True, replace: Replace | None = None) -> None:
    """Start server and worker, print the address once a run can start, and stay until Ctrl-C or SIGTERM.

    If `up` runs in this Prefect home already, only apply the definitions again, and call `replace` before what it
    does changes (see `apply_all`). Without `auth` the server asks for no password.

    Raises:
        ConfigError: the environment or Prefect's settings cannot be used.
        AlreadyUp: `up` is running on another port.
        PortTaken: another program has the port.
        ApiNotReady: the server, or the worker, did not start.
        ProcessDied: one of them ended.
    """
    where = address(port)
    prepare_up(where, auth=auth)
    with _only_one(port) as running:
        if running:
            _join(port)
            require_api(load_settings())  # its password may be another
            show_fleet.print_up(where, apply_all(replace=replace), again=True)
            return
        with _listen(port) as listener, _stopped_by_signals():
            show_fleet.print_starting(where)
            _run(port, listener)
    show_fleet.print_stopped()


def _run(port: int, listener: socket.socket) -> None:
    adopt_orphans()
    with ExitStack() as stack:
        stack.callback(kill_descendants)
        server = _start("server", "deployments.server.api_process", inherited=listener.fileno())
        stack.callback(server.stop)
        listener.close()
        worker, started = _start_worker()
        stack.callback(worker.stop)
        load_flows()  # while both are starting
        _wait_for_server(port)
        applied = apply_all()
        _forget_the_dead()
        worker.go()
        _wait_for_worker(worker, started)
        show_fleet.print_up(address(port), applied, again=False)
        while True:
            server.require_alive()
            worker.require_alive()
            time.sleep(0.2)


def _forget_the_dead() -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        show_fleet.print_orphans(crash_orphans(client, worker_name()))


def _start_worker() -> tuple[Child, int]:
    """Start a worker, which waits for `go`. Also returns the file descriptor of a pipe that becomes readable when the
    worker asks for work."""
    reading, writing = os.pipe()
    child = _start("worker", "deployments.server.worker_process", POOL, inherited=writing)
    os.close(writing)
    return child, reading


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block without an error; a second signal does not disturb the cleanup."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _only_one(port: int) -> Iterator[bool]:
    """Hold the lock of this Prefect home and yield False, or yield True if another `up` on the same port holds it.

    Raises:
        AlreadyUp: another `up` holds it and is on another port.
    """
    from prefect.settings import get_current_settings

    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    with (home / UP_LOCK).open("a+", encoding="utf-8") as lock:
        if not _take(lock):
            _require_same_port(lock, port, home)
            yield True
            return
        lock.truncate(0)
        lock.write(str(port))
        lock.flush()
        yield False


def _take(lock: TextIO) -> bool:
    """Try to take the lock, several times, as commands that check for an `up` hold it for a moment."""
    for wait_s in (0.02, 0.1, 0.0):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(wait_s)
        else:
            return True
    return False


def _require_same_port(lock: TextIO, port: int, home: Path) -> None:
    deadline = time.monotonic() + 1.0
    while not (other := Path(lock.name).read_text()) and time.monotonic() < deadline:  # it is about to write it
        time.sleep(0.02)
    if other != str(port):
        raise AlreadyUp(
            f"`clipsmith up` runs here already, on port {other}",
            where=home,
            expected=f"nothing, or the same on port {port}",
            fix=f"use http://{HOST}:{other}, end it first, or set another PREFECT_HOME for a second one",
        )


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise PortTaken(
            f"the port cannot be used: {error.strerror}",
            where=f"{HOST}:{port}",
            expected="a free port: another program has this one",
            fix="choose another with --port, or end that program; for a Prefect server that runs already set "
            "PREFECT_API_URL and use `clipsmith deploy`",
        ) from error


def _start(name: str, module: str, *arguments: object, inherited: int) -> Child:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, *map(str, arguments), str(inherited)],
        stdin=subprocess.PIPE,
        pass_fds=[inherited],
        start_new_session=True,  # Ctrl-C goes to `up` only, which ends the processes in order
    )
    return Child(name, process)


def _join(port: int) -> None:
    """Wait for the server of another `up`, which may be starting at this moment."""
    deadline = time.monotonic() + START_S
    while not _listens(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    _wait_for_server(port)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _wait_for_server(port: int) -> None:
    problem = server_problem(HOST, port, START_S)
    if problem is not None:
        raise _not_ready("server", problem)


def _wait_for_worker(worker: Child, started: int) -> None:
    readable, _, _ = select.select([started], [], [], START_S)
    said = os.read(started, 1) if readable else b""
    os.close(started)
    if not said:
        raise _not_ready("worker", "it ended" if readable else f"no answer within {START_S:.0f} s")
    worker.require_alive()


def _not_ready(name: str, problem: str) -> ApiNotReady:
    return ApiNotReady(
        f"the {name} did not start: {problem}",
        fix="see its messages above; with PostgreSQL check PREFECT_API_DATABASE_CONNECTION_URL",
    )
