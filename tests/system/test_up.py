"""`clipsmith up`: ready in half a minute, harmless when it runs already, and gone without a trace, whatever ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.schedules import IntervalSchedule

from tests.conftest import CLIPSMITH, CommandResult
from tests.processes import left_after, marked
from tests.system.servers import Up, free_port, read_run, start_up, stop_up, trigger, up, up_environment, wait_for

pytestmark = pytest.mark.heavy

SERVER, WORKER, RUN = "deployments.api_process", "deployments.worker_process", "prefect.engine"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One installation for the module: its database is migrated once."""
    return tmp_path_factory.mktemp("up")


def command(*arguments: object, environment: dict[str, str]) -> CommandResult:
    """A `clipsmith` command in this very environment."""
    done = subprocess.run(
        [str(CLIPSMITH), *map(str, arguments)],
        env=environment,
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


def known(api_url: str) -> dict[str, Any]:
    """Everything that the server was told, by its identity: an update in place keeps it, a duplicate has another."""
    with SyncPrefectClient(api_url) as client:
        deployments = client.read_deployments()
        return {
            "pools": {pool.name: (pool.id, pool.type) for pool in client.read_work_pools()},
            "deployments": {one.name: one.id for one in deployments},
            "schedules": sorted((one.name, schedule.slug or "") for one in deployments for schedule in one.schedules),
            "automations": sorted((one.name, one.id) for one in client.read_automations()),
        }


def pid_of(running: Up, what: str) -> int:
    """The one process of this kind."""
    (pid,) = [pid for pid, line in marked(running.mark).items() if what in line]
    return pid


@contextmanager
def with_a_run(folder: Path) -> Iterator[tuple[Up, Any]]:
    """An `up` that is in the middle of a run of the demo."""
    with up(folder) as running:
        run = trigger(running.api_url, "optimize/optimize")
        assert wait_for(running.api_url, run, 60, "Running").name == "Running"
        time.sleep(3)  # into a step
        assert pid_of(running, RUN)
        yield running, run


def test_a_new_installation_is_ready_in_half_a_minute(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        if os.getloadavg()[0] < 2 * (os.cpu_count() or 1):  # nothing is promised while others have the machine
            assert running.ready_s < 30
        assert running.ui_url in running.log.read_text()
        found = known(running.api_url)
        assert {"optimize", "maintain", "compare", "promote"} <= found["deployments"].keys()
        assert found["pools"]["clipsmith"][1] == "process"


def test_a_second_one_says_so_and_starts_nothing(home: Path) -> None:
    with up(home) as running:
        before, processes = known(running.api_url), set(marked(running.mark))
        again = command("up", "--port", running.port, environment=running.environment | running.mark)
        assert again.code == 0, again.err
        assert "already up" in again.out
        assert known(running.api_url) == before
        assert set(marked(running.mark)) == processes

        elsewhere = command("up", "--port", free_port(), environment=running.environment)
        assert (elsewhere.code, elsewhere.err.split(":")[0]) == (1, "AlreadyUp")
        assert str(running.port) in elsewhere.err


def test_the_next_one_updates_in_place_and_leaves_to_people_what_is_theirs(home: Path) -> None:
    with up(home) as running:
        with SyncPrefectClient(running.api_url) as client:
            maintain = client.read_deployment_by_name("maintain/maintain")
            weekly = IntervalSchedule(interval=timedelta(days=7))
            (mine,) = client.create_deployment_schedules(maintain.id, [(weekly, False)])
        before = known(running.api_url)
    with up(home) as running:
        assert known(running.api_url) == before
        with SyncPrefectClient(running.api_url) as client:
            (kept,) = client.read_deployment_by_name("maintain/maintain").schedules
            assert (kept.schedule.interval, kept.active) == (timedelta(days=7), False)
            client.delete_deployment_schedule(maintain.id, kept.id)
    assert mine.slug is None


def test_sigterm_ends_everything_with_a_run_in_progress(home: Path) -> None:
    with with_a_run(home) as (running, run):
        begun = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(15) == 0
        left = left_after(running.mark, max(0.0, 10 - (time.monotonic() - begun)))
        print(f"everything had ended after {time.monotonic() - begun:.1f} s")
        assert left == {}
        assert time.monotonic() - begun < 10
    with up(home) as running:  # and the run has told the server before it ended
        state = read_run(running.api_url, run).state
        assert state is not None
        assert state.name == "Crashed"


def test_kill_leaves_nothing_with_a_run_in_progress(home: Path) -> None:
    with with_a_run(home) as (running, _):
        running.process.kill()
        running.process.wait()
        assert left_after(running.mark, 10) == {}


@pytest.mark.parametrize(("what", "name"), [(SERVER, "server"), (WORKER, "worker")])
def test_it_ends_when_its_server_or_its_worker_dies(home: Path, what: str, name: str) -> None:
    running = start_up(home)
    try:
        subprocess.run(["kill", "-9", str(pid_of(running, what))], check=True)
        assert running.process.wait(15) == 1
        assert f"ProcessDied: the {name} has ended by itself" in running.log.read_text()
        assert left_after(running.mark, 0) == {}
    finally:
        stop_up(running)


def test_a_port_that_another_program_has_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = command("up", "--port", port, environment=up_environment(tmp_path))
    assert (result.code, result.err.split(":")[0]) == (1, "PortTaken")
    assert f"127.0.0.1:{port}" in result.err
    assert "--port" in result.err


def test_deploying_without_a_server_is_an_error(tmp_path: Path) -> None:
    result = command("deploy", environment=up_environment(tmp_path))
    assert (result.code, result.err.split(":")[0]) == (1, "NoServer")
    nobody = f"http://127.0.0.1:{free_port()}/api"
    result = command("deploy", environment=up_environment(tmp_path, PREFECT_API_URL=nobody))
    assert (result.code, result.err.split(":")[0]) == (1, "NoServer")
    assert nobody in result.err
