"""`clipsmith up`: ready in half a minute, harmless when it runs already, and gone without a trace, whatever ends it."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule

from tests.conftest import CLIPSMITH, CommandResult
from tests.processes import left_after, marked
from tests.system.servers import (
    Up,
    free_port,
    read_run,
    sleeping_variants,
    stop_up,
    trigger,
    up,
    up_environment,
    wait_for,
)
from tests.system.turns import Start, key, says, start
from tests.thorough import amount

__all__ = ["key", "start"]

pytestmark = pytest.mark.heavy

SERVER, WORKER, RUN = "deployments.server.api_process", "deployments.server.worker_process", "prefect.engine"
TELL = {"clipsmith: tell of a run that failed or crashed", "clipsmith: tell of a regression"}
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "for a while",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


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


def environment_of(pid: int) -> dict[str, str]:
    """What a process was started with."""
    lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def given(folder: Path) -> dict[str, str]:
    """What somebody who shares a bucket starts `up` with."""
    return CREDENTIALS | {
        "CLIPSMITH_BUCKET": str(folder / "bucket"),
        "CLIPSMITH_VARIANTS": str(sleeping_variants(folder)),
        "CLIPSMITH_WEBHOOK_URL": "http://127.0.0.1:9",
    }


@contextmanager
def with_a_run(folder: Path) -> Iterator[tuple[Up, FlowRun]]:
    """An `up` that is in the middle of a run of the demo."""
    with up(folder, **given(folder)) as running:
        run = trigger(running.api_url, "optimize/optimize")
        assert wait_for(running.api_url, run, 60, "Running").name == "Running"
        time.sleep(3)  # into a step
        assert pid_of(running, RUN)
        yield running, run


def test_a_new_installation_is_ready_in_half_a_minute_and_a_second_up_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "clipsmith-up.lock").write_text("12345")  # the port of one that has ended
    with up(tmp_path) as running:
        if os.getloadavg()[0] < (os.cpu_count() or 1):  # nothing is promised while others have the machine
            assert running.ready_s < 30
        assert running.ui_url in running.log.read_text()
        found = known(running.api_url)
        assert {"optimize", "maintain", "compare", "promote"} <= found["deployments"].keys()
        assert found["pools"]["clipsmith"][1] == "process"
        the_doctor_finds_server_and_worker(running)
        a_second_one_says_so_applies_everything_again_and_starts_nothing(running)


def the_doctor_finds_server_and_worker(running: Up) -> None:
    found = command("doctor", "--json", environment=running.environment)
    checks = {each["name"]: each for each in found.document["checks"]}
    assert checks["server"]["ok"] and checks["server"]["found"].endswith(f":{running.port}/api")
    assert checks["worker"]["ok"] and checks["worker"]["found"] != "in pool clipsmith: "


def a_second_one_says_so_applies_everything_again_and_starts_nothing(running: Up) -> None:
    with SyncPrefectClient(running.api_url) as client:
        client.delete_deployment(client.read_deployment_by_name("compare/compare").id)
    before, processes = known(running.api_url), set(marked(running.mark))
    again = command("up", "--port", running.port, environment=running.environment | running.mark)
    assert again.code == 0, again.err
    assert "already up" in again.out
    after = known(running.api_url)
    assert after["deployments"].pop("compare"), "it is there again"
    assert after == before
    assert set(marked(running.mark)) == processes

    what_another_shell_would_replace_is_shown_and_stays(running)
    elsewhere = command("up", "--port", free_port(), environment=running.environment)
    assert (elsewhere.code, elsewhere.err.split(":")[0]) == (1, "AlreadyUp")
    assert str(running.port) in elsewhere.err


def what_another_shell_would_replace_is_shown_and_stays(running: Up) -> None:
    (running.log.parent / "others").mkdir()
    (running.log.parent / "others" / "other.yaml").write_text("parameters: {model: demo}\n")
    others = running.environment | running.mark | {"CLIPSMITH_VARIANTS": str(running.log.parent / "others")}
    before = nights(running.api_url)
    for arguments in (("up", "--port", running.port), ("deploy",)):
        refused = command(*arguments, environment=others)
        assert (refused.code, refused.err.split(":")[0]) == (2, "ConfigError"), refused.err
        assert "    nightly at 0 2 * * * UTC: nothing -> other" in refused.err
        assert nights(running.api_url) == before
    assert command("deploy", "--yes", environment=others).code == 0
    assert nights(running.api_url) == [["other"]]


def nights(api_url: str) -> list[list[str]]:
    """The variants of each schedule of the nightly run."""
    with SyncPrefectClient(api_url) as client:
        schedules = client.read_deployment_by_name("nightly/nightly").schedules
    return [schedule.parameters["parameters"]["variants"] for schedule in schedules]


def test_the_next_one_updates_in_place_and_leaves_to_people_what_is_theirs(home: Path) -> None:
    webhook = {"CLIPSMITH_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}"}
    shared = given(home) | webhook
    with up(home, **shared) as running:
        with SyncPrefectClient(running.api_url) as client:
            (paused,) = client.read_automations_by_name("clipsmith: tell of a regression")
            client.pause_automation(paused.id)
            maintain = client.read_deployment_by_name("maintain/maintain")
            weekly = IntervalSchedule(interval=timedelta(days=7))
            (mine,) = client.create_deployment_schedules(maintain.id, [(weekly, False)])
        before = known(running.api_url)
    with up(home, **shared) as running:
        assert known(running.api_url) == before
        with SyncPrefectClient(running.api_url) as client:
            (kept,) = client.read_deployment_by_name("maintain/maintain").schedules
            assert (kept.schedule.interval, kept.active) == (timedelta(days=7), False)
            client.delete_deployment_schedule(maintain.id, kept.id)
            assert [one.enabled for one in client.read_automations_by_name(paused.name)] == [False]

        there = running.environment | {"PREFECT_API_URL": running.api_url}
        unnamed = {name: value for name, value in there.items() if name not in webhook}
        assert command("deploy", environment=unnamed).code == 0
        without = there | dict.fromkeys(webhook, "")
        refused = command("deploy", environment=without)
        assert (refused.code, refused.err.count(": calls the webhook -> nothing")) == (2, 2), refused.err
        assert known(running.api_url)["automations"] == before["automations"], (
            "another shell ends nothing, or not without a yes"
        )
        deployed = command("deploy", "--yes", environment=without)
        assert deployed.code == 0, deployed.err
        after = known(running.api_url)["automations"]
        assert after == [one for one in before["automations"] if one[0] not in TELL]
        assert len(after) == len(before["automations"]) - 2
    assert mine.slug is None


def press_ctrl_c(running: Up) -> None:
    """As a terminal does: everything in the group of `up` gets it."""
    group = os.getpgid(running.process.pid)
    for pid in marked(running.mark):
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == group:
                os.kill(pid, signal.SIGINT)


def ask_to_end(running: Up) -> None:
    """As a service manager does."""
    running.process.send_signal(signal.SIGTERM)


def kept_state(home: Path, run: FlowRun) -> str:
    """What the database of an installation that is not running says of a run."""
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
        (found,) = database.execute("SELECT state_name FROM flow_run WHERE id = ?", [str(run.id)])
    return found[0]


@pytest.mark.parametrize("request_end", amount([press_ctrl_c], [ask_to_end, press_ctrl_c]))
def test_it_ends_everything_in_order_with_a_run_in_progress(home: Path, request_end: Callable[[Up], None]) -> None:
    with with_a_run(home) as (running, run):
        expected = given(home) | {"CLIPSMITH_STORE": running.environment["CLIPSMITH_STORE"]}
        reached = environment_of(pid_of(running, RUN))
        assert {name: reached.get(name) for name in expected} == expected, "runs know what `up` was started with"
        begun = time.monotonic()
        request_end(running)
        time.sleep(0.5)
        request_end(running)  # as the impatient do: it does not disturb the cleaning up
        assert running.process.wait(15) == 0
        left = left_after(running.mark, max(0.0, 10 - (time.monotonic() - begun)))
        print(f"everything had ended after {time.monotonic() - begun:.1f} s")
        assert left == {}
        assert time.monotonic() - begun < 10
    # And the run has told the server before it ended. The next `up` would mark it Crashed if it had not.
    assert kept_state(home, run) == "Crashed"


def test_kill_leaves_nothing_with_a_run_in_progress_and_the_next_one_says_that_it_crashed(home: Path) -> None:
    with with_a_run(home) as (running, run):
        running.process.kill()
        running.process.wait()
        assert left_after(running.mark, 10) == {}
    with up(home, **given(home)) as again:
        dead = read_run(again.api_url, run).state
        assert dead is not None and dead.name == "Crashed"
        assert "marked Crashed" in again.log.read_text()
        limit = f"deployment:{read_run(again.api_url, run).deployment_id}"
        with SyncPrefectClient(again.api_url) as client:
            assert client.read_global_concurrency_limit_by_name(limit).active_slots == 0, "its place is free"


@pytest.mark.parametrize(("what", "name"), [(SERVER, "server"), (WORKER, "worker")])
def test_it_ends_when_its_server_or_its_worker_dies(home: Path, what: str, name: str) -> None:
    with with_a_run(home) as (running, _):
        subprocess.run(["kill", "-9", str(pid_of(running, what))], check=True)
        assert running.process.wait(15) == 1
        assert f"ProcessDied: the {name} has ended by itself" in running.log.read_text()
        assert left_after(running.mark, 0) == {}, "the run, too, has ended"


def test_without_auth_it_asks_nobody_for_a_password_and_says_who_can_come_in(home: Path) -> None:
    with up(home, options=("--no-auth",), **given(home)) as running:
        flows = f"{running.ui_url}/api/flows/filter"
        assert httpx.post(flows, json={}).status_code == 200
        elsewhere = {"Origin": "http://elsewhere.example"}
        assert "access-control-allow-origin" not in httpx.post(flows, json={}, headers=elsewhere).headers
        assert "every user of this machine can run code here as you" in " ".join(running.log.read_text().split())
    with up(home, **given(home)) as running:
        assert httpx.post(f"{running.ui_url}/api/flows/filter", json={}).status_code == 401


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


def test_a_server_that_goes_away_costs_no_measurement(home: Path, start: Start, key: str) -> None:
    with up(home, **given(home)) as gone:
        holder = start(gone, key, "one")
        assert says(holder) == "mine"
        stop_up(gone)
        begun = time.monotonic()
        out, _ = holder.communicate("\n", timeout=120)
        print(f"the turn ended {time.monotonic() - begun:.1f} s after the block")
    assert (out, holder.returncode) == ("done\n", 0)
