"""Two hosts, as far as one machine can be two: homes and stores of their own, and nothing in common but the server on
PostgreSQL and a bucket. What one has computed and published, the other finds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun

from tests.conftest import CommandResult, run_clipsmith
from tests.processes import left_after, new_mark
from tests.s3 import moto, s3_environment
from tests.system.servers import SMALL, Up, postgres, run_log, trigger, up, wait_for

pytestmark = pytest.mark.heavy

OTHER_POOL = "other-host"
UNCACHED = {"resolve", "pin", "publish", "show"}
"""The first words of the names of tasks that run every time."""


@contextmanager
def worker(environment: dict[str, str], folder: Path) -> Iterator[None]:
    """The other host's worker, and all that it starts."""
    mark = new_mark()
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", OTHER_POOL, "--type", "process"]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment | mark, cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        left_after(mark, 10)


def optimize(running: Up) -> tuple[FlowRun, dict[str, str]]:
    """Run it with small parameters; the states of its tasks by their names."""
    run = trigger(running.api_url, "optimize/optimize", {"parameters": SMALL})
    state = wait_for(running.api_url, run, 240)
    assert state.is_completed(), run_log(running.api_url, run)
    with SyncPrefectClient(running.api_url) as client:
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
    return run, {task.name: task.state_name or "" for task in tasks}


def releases(environment: dict[str, str]) -> list[dict[str, Any]]:
    """What `clipsmith releases` shows on a host."""
    found: list[dict[str, Any]] = clipsmith("releases", environment, "--json").document["releases"]
    return found


def clipsmith(command: str, environment: dict[str, str], *arguments: str) -> CommandResult:
    """Run a command on a host."""
    return run_clipsmith(command, *arguments, timeout=300, **environment)


def test_what_one_host_has_made_the_other_finds(tmp_path: Path) -> None:
    with moto(tmp_path / "moto.log") as address, postgres() as database:
        aws = s3_environment(address)
        client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name=aws["AWS_DEFAULT_REGION"],
            aws_access_key_id=aws["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=aws["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket="fleet")
        both = aws | {"CLIPSMITH_BUCKET": "s3://fleet/team"}
        with up(tmp_path / "a", PREFECT_API_DATABASE_CONNECTION_URL=database, **both) as running:
            other = tmp_path / "b"
            other.mkdir()
            here = both | {"CLIPSMITH_STORE": running.environment["CLIPSMITH_STORE"]}
            there = both | {
                "PREFECT_API_URL": running.api_url,
                "PREFECT_HOME": str(other / "prefect"),
                "PREFECT_LOCAL_STORAGE_PATH": str(other / "results"),
                "CLIPSMITH_STORE": str(other / "store"),
                "CLIPSMITH_VARIANTS": running.environment["CLIPSMITH_VARIANTS"],
            }
            _, first = optimize(running)
            assert "Cached" not in first.values()
            (made,) = releases(here)

            deployed = clipsmith("deploy", there, "--pool", OTHER_POOL)
            assert deployed.code == 0, deployed.err
            with worker(running.environment | there, other):
                run, second = optimize(running)
            steps = {name: state for name, state in second.items() if name.partition("-")[0] not in UNCACHED}
            assert steps.keys() == first.keys() & steps.keys()
            assert len(steps) > 10
            assert set(steps.values()) == {"Cached"}, run_log(running.api_url, run)
            assert releases(there) == [made] == releases(here)
            assert clipsmith("verify", there, "--json").document["problems"] == []
            assert not (other / "results").exists()
            with SyncPrefectClient(running.api_url) as api:
                assert api.read_server_default_result_storage().default_result_storage_block_id is None
            kept = client.list_objects_v2(Bucket="fleet", Prefix="team/cache/results/")["Contents"]
            assert len(kept) > len(steps)


def test_commands_share_a_folder_and_say_when_it_is_gone(tmp_path: Path) -> None:
    parameters = tmp_path / "small.yaml"
    parameters.write_text(json.dumps(SMALL))
    found = {}
    for host in ("a", "b"):
        environment = {
            "PREFECT_HOME": str(tmp_path / host / "prefect"),
            "CLIPSMITH_STORE": str(tmp_path / host / "store"),
            "CLIPSMITH_BUCKET": str(tmp_path / "bucket"),
        }
        found[host] = clipsmith("optimize", environment, "--config", str(parameters), "--json")
        assert found[host].code == 0, found[host].err
    assert [made.document["new"] for made in found.values()] == [True, False]
    assert "(cached)" not in found["a"].err
    assert found["b"].err.count("(cached)") == found["a"].err.count(" MiB")
    (tmp_path / "bucket").rename(tmp_path / "gone")
    (tmp_path / "bucket").touch()
    refused = clipsmith("releases", environment)
    assert refused.code != 0
    assert str(tmp_path / "bucket") in refused.err.replace("\n", "")
