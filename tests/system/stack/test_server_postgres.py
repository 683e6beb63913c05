"""A real server on PostgreSQL and a real worker: what people do with them, and what happens when things die."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import PrefectHTTPStatusError

from tests.conftest import run_clipsmith
from tests.processes import marked, new_mark
from tests.system.receiver import Receiver
from tests.system.servers import SMALL, Up, read_run, release_of, run_log, trigger, wait_for

pytestmark = pytest.mark.heavy

CRASHED_WITHIN_S = 120.0
ROOT = Path(__file__).parents[3]
OTHER_POOL = "elsewhere"


def releases(running: Up) -> list[dict[str, Any]]:
    """What the store of this installation holds."""
    return run_clipsmith("releases", "--json", CLIPSMITH_STORE=running.environment["CLIPSMITH_STORE"]).document[
        "releases"
    ]


def test_with_no_parameters_it_runs_the_demo(running: Up, demo_run: FlowRun) -> None:
    assert demo_run.deployment_id is not None
    assert demo_run.work_pool_name == "clipsmith"
    (made,) = [one for one in releases(running) if one["ref"] == release_of(running.api_url, demo_run)]
    assert made["ref"].startswith("demo@")
    assert made["status"] == "accepted"


def test_its_artifacts_are_listed_in_a_readers_order(running: Up, demo_run: FlowRun) -> None:
    """As the run's page asks for them."""
    with SyncPrefectClient(running.api_url) as client:
        found = client.read_artifacts(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[demo_run.id])))
    keys = [str(one.key).removeprefix("clipsmith-") for one in found if one.key]
    assert keys[:8] == ["report", "precision-map", "release", "gates", "accuracy", "agreement", "sizes", "coverage"]


@pytest.mark.usefixtures("demo_run")
def test_nothing_contacts_an_address_beyond_the_loopback(running: Up, traced: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = traced.read_text(errors="replace")
    outside, inside = connections(trace)
    database = running.environment["PREFECT_API_DATABASE_CONNECTION_URL"].rpartition(":")[2].partition("/")[0]
    assert inside > 20, "the trace is not of a server, a worker and a run"
    assert f"htons({running.port})" in trace, "the trace is not of the worker and the run"
    assert f"htons({database})" in trace, "the trace is not of the server"
    assert outside == []


def connections(trace: str) -> tuple[list[str], int]:
    """The addresses that are not the loopback's, and how many calls went to the loopback."""
    found = re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', trace)
    addresses = [ip_address(four or six) for four, six in found]
    outside = sorted({str(one) for one in addresses if not one.is_loopback})
    return outside, sum(one.is_loopback for one in addresses)


def test_the_trace_would_show_a_connection_to_elsewhere(tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    look_up = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect_ex(('192.0.2.1', 9))"
    trace = tmp_path / "trace"
    command = ["strace", "-f", "--seccomp-bpf", "-e", "trace=connect", "-o", str(trace), sys.executable, "-c", look_up]
    subprocess.run(command, check=True, capture_output=True)
    assert connections(trace.read_text())[0] == ["192.0.2.1"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"precisions": ["fp4"]},
        {"targets": ["no-such-target"]},
        {"calibration": {"samples": 1}},
        {"evaluation": {"batch": "8"}},
        {"no_such_parameter": 1},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_values_that_are_not_allowed_are_refused_before_a_run_starts(running: Up, parameters: dict[str, Any]) -> None:
    before = runs_of(running, "optimize/optimize")
    with pytest.raises(PrefectHTTPStatusError) as refused:
        trigger(running.api_url, "optimize/optimize", {"parameters": parameters})
    assert refused.value.response.status_code in (409, 422)
    assert len(runs_of(running, "optimize/optimize")) == len(before)


def runs_of(running: Up, deployment: str) -> list[FlowRun]:
    """All runs of a deployment."""
    with SyncPrefectClient(running.api_url) as client:
        found = client.read_deployment_by_name(deployment)
        return client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[found.id])))


@pytest.mark.usefixtures("demo_run")
def test_a_schedule_fires(running: Up) -> None:
    before = {run.id for run in runs_of(running, "maintain/maintain")}
    with SyncPrefectClient(running.api_url) as client:
        maintain = client.read_deployment_by_name("maintain/maintain")
        # More often, and several runs start before the first one has ended.
        often = IntervalSchedule(interval=timedelta(seconds=20))
        (schedule,) = client.create_deployment_schedules(maintain.id, [(often, True)])
        try:
            fired = _first_completed(running, before)
        finally:
            client.delete_deployment_schedule(maintain.id, schedule.id)
            for run in _new_runs(running, before):  # one may have begun, and would keep others' maintenance waiting
                wait_for(running.api_url, run, 60)
    assert fired.auto_scheduled


def _new_runs(running: Up, before: set[UUID]) -> list[FlowRun]:
    return [run for run in runs_of(running, "maintain/maintain") if run.id not in before]


def _first_completed(running: Up, before: set[UUID]) -> FlowRun:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        for run in _new_runs(running, before):
            assert run.state is not None
            assert not (run.state.is_failed() or run.state.is_crashed()), run_log(running.api_url, run)
            if run.state.is_completed():
                return run
        time.sleep(0.5)
    raise AssertionError([(run.name, run.state_name) for run in _new_runs(running, before)])


def test_a_failed_run_calls_the_webhook(running: Up, receiver: Receiver) -> None:
    run = trigger(running.api_url, "optimize/optimize", {"parameters": {"model": "/no/such/folder"}})
    assert wait_for(running.api_url, run, 90).is_failed()
    call = receiver.wait_for_run(run, 30)
    assert (call["event"], call["flow"], call["state"]) == ("prefect.flow-run.Failed", "optimize", "Failed")
    assert "/no/such/folder" in call["message"]
    assert str(run.id) in call["url"]


def test_a_regression_calls_the_webhook(running: Up, receiver: Receiver) -> None:
    emit = (
        "from prefect.events import emit_event\n"
        "from prefect.events.worker import EventsWorker\n"
        "emit_event('clipsmith.regression', {'prefect.resource.id': 'clipsmith.model.fallen'},\n"
        "           payload={'release': 'fallen@2', 'message': 'top-1 \"fell\"'})\n"
        "EventsWorker.drain_all()\n"
    )
    environment = running.environment | {"PREFECT_API_URL": running.api_url}
    subprocess.run([sys.executable, "-c", emit], env=environment, check=True, timeout=60)
    assert receiver.wait_for(lambda call: call.get("release") == "fallen@2", 30) == [
        {
            "event": "clipsmith.regression",
            "model": "clipsmith.model.fallen",
            "release": "fallen@2",
            "message": 'top-1 "fell"',
        }
    ]


@contextmanager
def own_worker(running: Up, pool: str) -> Iterator[dict[str, str]]:
    """A worker of Prefect's own command, on another pool; the value is the mark of its processes."""
    mark = new_mark()
    # Without the password in it: what logs name the address.
    environment = running.environment | mark | {"PREFECT_API_URL": f"http://127.0.0.1:{running.port}/api"}
    environment |= {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "CLIPSMITH_WORKDIR": str(running.log.parent)}
    prefect = Path(sys.executable).with_name("prefect")
    with (running.log.parent / f"worker-{pool}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(prefect), "worker", "start", "--pool", pool, "--type", "process"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield mark
    finally:
        kill_all(mark)
        process.wait()


def kill_all(mark: dict[str, str]) -> None:
    """As when the machine loses its power."""
    while pids := marked(mark):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def deploy(running: Up, pool: str) -> None:
    """`clipsmith deploy --pool POOL`, to the server of `up`, whatever its nights are."""
    done = run_clipsmith(
        "deploy", "--yes", "--pool", pool, **(running.environment | {"PREFECT_API_URL": running.api_url})
    )
    assert done.code == 0, done.err


def test_a_run_whose_worker_died_is_crashed_and_the_next_goes_on_from_the_cache(
    running: Up, receiver: Receiver
) -> None:
    # An encoder and samples that no other run calibrates with.
    parameters = {"parameters": SMALL | {"encoders": ["image"], "calibration": {"samples": 33}}}
    deploy(running, OTHER_POOL)
    try:
        with own_worker(running, OTHER_POOL) as mark:
            run = trigger(running.api_url, "optimize/optimize", parameters)
            wait_for(running.api_url, run, 60, "Running")
            # A step logs its line before its result is saved; once the next step has ended, calibration's is.
            wait_until_logged(running, run, r"^step +\d+ of \d+: quantize ", 120)
            kill_all(mark)
            killed = time.monotonic()
        deploy(running, OTHER_POOL)  # the server goes on counting for how long nobody has heard of the run
        assert read_run(running.api_url, run).state_name == "Running"  # nobody is left to say otherwise
        state = wait_for(running.api_url, run, CRASHED_WITHIN_S)
        print(f"marked as crashed after {time.monotonic() - killed:.0f} s")
        assert state.is_crashed()
    finally:
        deploy(running, "clipsmith")
        with SyncPrefectClient(running.api_url) as client:
            client.delete_work_pool(OTHER_POOL)
    assert receiver.wait_for_run(run, 30)["event"] == "prefect.flow-run.Crashed"

    again = trigger(running.api_url, "optimize/optimize", parameters)
    assert wait_for(running.api_url, again, 200).is_completed(), run_log(running.api_url, again)
    ended = [
        line for line in run_log(running.api_url, again).splitlines() if re.search(r": (check|calibrate) .* MiB", line)
    ]
    assert len(ended) == 2
    assert all(line.endswith("(cached)") for line in ended), ended


def wait_until_logged(running: Up, run: FlowRun, pattern: str, timeout: float) -> None:
    """Wait until the run has logged a line that begins so."""
    deadline = time.monotonic() + timeout
    while not re.search(pattern, run_log(running.api_url, run), re.MULTILINE):
        assert time.monotonic() < deadline, run_log(running.api_url, run)
        time.sleep(0.5)


def test_prefect_itself_reads_the_same_definitions_from_the_file(running: Up) -> None:
    deploy(running, "clipsmith")
    ours = definitions(running)
    environment = running.environment | {"PREFECT_API_URL": running.api_url}
    command = [str(Path(sys.executable).with_name("prefect")), "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        [*command, "--prefect-file", "deployments/prefect.yaml"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = definitions(running)
    deploy(running, "clipsmith")
    assert theirs == ours
    assert definitions(running) == ours


def definitions(running: Up) -> dict[str, dict[str, Any]]:
    """What decides how each deployment runs; its identity too."""
    said = {"id", "name", "entrypoint", "pull_steps", "tags", "work_pool_name", "description", "concurrency_options"}
    said |= {"global_concurrency_limit", "parameter_openapi_schema", "enforce_parameter_schema", "job_variables"}
    with SyncPrefectClient(running.api_url) as client:
        found = client.read_deployments()
    rows = {one.name: one.model_dump(mode="json", include=said) for one in found}
    for row in rows.values():
        limit = row.pop("global_concurrency_limit")
        row["limit"] = limit and limit["limit"]
        row["job_variables"].pop("image", None)  # Prefect keeps it empty where the variable is not set
        # Prefect shows the store of the machine that deploys; `clipsmith deploy` leaves it to the one that runs.
        schema = row["parameter_openapi_schema"]
        schema["properties"]["parameters"].get("default", {}).pop("store", None)
        for definition in schema["definitions"].values():
            definition.get("properties", {}).get("store", {}).pop("default", None)
        row["concurrency_options"] = row["concurrency_options"] and row["concurrency_options"]["collision_strategy"]
    return rows
