"""Which runs are taken for dead; that the server then says so is held by `tests/system/test_up.py`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State

from deployments.server.orphans import crash_orphans


class Server:
    """Two pages of runs, and what it is told of them."""

    def __init__(self, runs: list[FlowRun]) -> None:
        self.runs = runs
        self.told: dict[Any, State] = {}

    def read_flow_runs(self, flow_run_filter: Any, offset: int) -> list[FlowRun]:
        assert {str(state.value) for state in flow_run_filter.state.type.any_} == {"RUNNING", "PENDING", "CANCELLING"}
        return self.runs[offset : offset + 2]

    def set_flow_run_state(self, run: Any, state: State) -> None:
        self.told[run] = state


def run_of(worker: str, pid: str | None) -> FlowRun:
    return FlowRun(flow_id=uuid4(), labels={"prefect.worker.name": worker}, infrastructure_pid=pid)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like one of Prefect's."""
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "prefect"], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.wait()


def test_runs_of_this_host_whose_process_is_gone_have_crashed(process: subprocess.Popen[bytes]) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "", "prefect"])
    ended.wait()
    living = run_of("here", str(process.pid))
    elsewhere = run_of("there", str(ended.pid))
    dead = [run_of("here", str(ended.pid)), run_of("here", "1"), run_of("here", None)]
    by_hand = FlowRun(flow_id=uuid4(), infrastructure_pid=None)
    server = Server([living, dead[0], elsewhere, dead[1], by_hand, dead[2]])
    found = crash_orphans(server, "here")  # type: ignore[arg-type]
    assert [run.id for run in found] == [run.id for run in dead]
    assert {run: state.name for run, state in server.told.items()} == dict.fromkeys([run.id for run in dead], "Crashed")
