"""A real PostgreSQL, a real `clipsmith up` with its server and worker, and how tests start and await runs on them.

with postgres() as database, up(folder, PREFECT_API_DATABASE_CONNECTION_URL=database) as running:
    run = trigger(running.api_url, "optimize/optimize", {"parameters": {}})
    state = wait_for(running.api_url, run, timeout=120)
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Scheduled

from deployments.server import own_server
from tests.conftest import CLIPSMITH
from tests.processes import left_after, new_mark, own_environment
from tests.system import debian

READY = "Ctrl-C"
"""`clipsmith up` prints it when a run can be started."""
START_S = 150.0
"""How long it may take on a machine that is busy with other tests."""
PASSWORDS: dict[str, str] = {}
"""Of the servers that were started here, by the address of their pages."""
SMALL: dict[str, Any] = {
    "targets": ["onnxruntime"],
    "encoders": ["text"],
    "calibration": {"samples": 32},
    "evaluation": {"samples": 32},
    "latency": {"batches": [1], "rounds": 10, "seconds": 0.1},
}
"""Parameters of a run of seconds; runs that begin with them share its cached steps."""
_UNPRIVILEGED = "postgres"  # PostgreSQL refuses root


@dataclass(frozen=True)
class Up:
    """A running `clipsmith up`."""

    api_url: str
    """With the password in it: for clients of the tests."""
    ui_url: str
    password: str
    process: subprocess.Popen[bytes]
    port: int
    environment: dict[str, str]
    """What it was started with: for commands that shall meet the same server, store and home."""
    mark: dict[str, str]
    """For `tests.processes.marked`: finds every process that it has started."""
    log: Path
    """What it and its children printed."""
    ready_s: float
    """Seconds from its start until it was ready."""


def free_port() -> int:
    """A port of the loopback that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def postgres() -> Iterator[str]:
    """A new, empty database; the value is what PREFECT_API_DATABASE_CONNECTION_URL takes."""
    binaries = _postgres_binaries()
    folder = Path(tempfile.mkdtemp(prefix="clipsmith-pg-"))
    as_user = _as_user(folder)
    data = folder / "data"
    port = free_port()

    def run(*command: object) -> None:
        arguments = [*as_user, *map(str, command)]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=folder, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run(binaries / "initdb", "-D", data, "-U", "prefect", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    settings = (
        f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=200 "
        "-c jit=off"  # as the compose file
    )
    try:
        run(binaries / "pg_ctl", "-D", data, "-o", settings, "-l", folder / "log", "-w", "start")
        run(binaries / "createdb", "-h", "127.0.0.1", "-p", port, "-U", "prefect", "clipsmith")
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/clipsmith"
    finally:
        subprocess.run(
            [*as_user, str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"],
            capture_output=True,
            cwd=folder,
            check=False,
        )
        shutil.rmtree(folder, ignore_errors=True)


def dump(database: str) -> str:
    """All that a database of `postgres` holds, as SQL."""
    command = [_postgres_binaries() / "pg_dump", "--inserts", database.replace("+asyncpg", "")]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def _postgres_binaries() -> Path:
    """Where PostgreSQL's programs are, installing it where that is possible."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        debian.install("postgresql")
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed, and cannot be installed here (that takes root and apt-get)")
    return found[-1].parent


def _as_user(folder: Path) -> list[str]:
    """What to put before PostgreSQL's commands; the folder becomes that user's."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, _UNPRIVILEGED)
    return ["setpriv", f"--reuid={_UNPRIVILEGED}", f"--regid={_UNPRIVILEGED}", "--clear-groups"]


def up_environment(folder: Path, **changes: str) -> dict[str, str]:
    """For a `clipsmith up` of its own: its Prefect home, store and variants are in `folder`."""
    here = {"PREFECT_HOME": str(folder / "prefect"), "CLIPSMITH_STORE": str(folder / "store")}
    here |= {"CLIPSMITH_VARIANTS": str(sleeping_variants(folder)), "PREFECT_LOGGING_TO_API_ENABLED": "true"}
    return own_environment(**here | changes)


def sleeping_variants(folder: Path) -> Path:
    """The demo, due on 29 February: the packaged one is made at two, also in the middle of a test."""
    variants = folder / "variants"
    variants.mkdir(exist_ok=True, parents=True)
    demo = variants / "demo.yaml"
    if not demo.exists():
        demo.write_text('schedule: {cron: "0 2 29 2 *"}\n')
    return variants


def start_up(
    folder: Path,
    port: int | None = None,
    *,
    under: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
    **changes: str,
) -> Up:
    """Start `clipsmith up` and wait until it is ready; `stop_up` ends it. `under` is a command that starts it."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    mark = new_mark()
    environment = up_environment(folder, **changes)
    log = folder / f"up-{mark[next(iter(mark))][:8]}.log"
    begun = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*under, str(CLIPSMITH), "up", "--port", str(port), *options],
            env=environment | mark,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    ready_s = _ready_after(process, log, begun)
    password = own_server.password(Path(environment["PREFECT_HOME"])) or ""
    running = Up(
        api_url=f"http://{password}@127.0.0.1:{port}/api",
        ui_url=f"http://127.0.0.1:{port}",
        password=password,
        process=process,
        port=port,
        environment=environment | {own_server.CLIENT: password},
        mark=mark,
        log=log,
        ready_s=ready_s,
    )
    PASSWORDS[running.ui_url] = password
    print(f"clipsmith up was ready after {running.ready_s:.1f} s")
    return running


def _ready_after(process: subprocess.Popen[bytes], log: Path, begun: float) -> float:
    while READY not in log.read_text(errors="replace"):
        waited = time.monotonic() - begun
        if process.poll() is not None or waited > START_S:
            process.kill()
            process.wait()
            raise AssertionError(f"clipsmith up is not ready after {waited:.0f} s:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)
    return time.monotonic() - begun


def stop_up(running: Up) -> None:
    """End it as a service manager would, and leave nothing of it behind."""
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
        try:
            running.process.wait(20)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()
    for pid in left_after(running.mark, 5):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def up(
    folder: Path,
    port: int | None = None,
    *,
    under: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
    **changes: str,
) -> Iterator[Up]:
    """`clipsmith up` with its own home and store below `folder`, and `changes` in its environment."""
    running = start_up(folder, port, under=under, options=options, **changes)
    try:
        yield running
    finally:
        stop_up(running)


def trigger(api_url: str, deployment: str, parameters: dict[str, Any] | None = None) -> FlowRun:
    """Start a run of a deployment (`optimize/optimize`), as Run in the UI does.

    Raises:
        PrefectHTTPStatusError: the API refuses the parameters.
    """
    with SyncPrefectClient(api_url) as client:
        found = client.read_deployment_by_name(deployment)
        return client.create_flow_run_from_deployment(found.id, parameters=parameters or {}, state=Scheduled())


def read_run(api_url: str, run: FlowRun | UUID) -> FlowRun:
    """The run as the API has it now."""
    with SyncPrefectClient(api_url) as client:
        return client.read_flow_run(run.id if isinstance(run, FlowRun) else run)


def wait_for(api_url: str, run: FlowRun | UUID, timeout: float, *states: str) -> State[Any]:
    """Wait until the run has ended, or is in a state of one of these names (`Running`); its state then."""
    deadline = time.monotonic() + timeout
    with SyncPrefectClient(api_url) as client:  # one for all questions: each new one costs more than they do
        while True:
            state = client.read_flow_run(run.id if isinstance(run, FlowRun) else run).state
            assert state is not None
            if state.is_final() or state.name in states:
                return state
            assert time.monotonic() < deadline, f"{state.name} after {timeout:.0f} s\n{run_log(api_url, run)}"
            time.sleep(0.5)


def release_of(api_url: str, run: FlowRun | UUID) -> str:
    """The release that a run of `optimize` has told of in its report, as demo@1."""
    wanted = ArtifactFilter(
        key=ArtifactFilterKey(any_=["clipsmith-report"]),
        flow_run_id=ArtifactFilterFlowRunId(any_=[run.id if isinstance(run, FlowRun) else run]),
    )
    with SyncPrefectClient(api_url) as client:
        (report,) = client.read_artifacts(artifact_filter=wanted)
    return str(report.description).removeprefix("report of ")


def run_log(api_url: str, run: FlowRun | UUID) -> str:
    """What the run has logged."""
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id if isinstance(run, FlowRun) else run]))
    with SyncPrefectClient(api_url) as client:
        return "\n".join(record.message for record in client.read_logs(wanted))
