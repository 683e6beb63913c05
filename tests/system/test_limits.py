"""Limits hold on a real server: so many runs at once, one benchmark at a time, and nobody waits for the dead."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun

from tasks.device.server_turn import SILENCE_S, variable_name
from tests.processes import new_mark
from tests.system.servers import Up, postgres, run_log, stop_up, trigger, up, wait_for

pytestmark = pytest.mark.heavy

RUNS = 4
BENCHMARK_S = 2.0
"""Per batch size."""
PARAMETERS = {
    "targets": ["onnxruntime"],
    "encoders": ["text"],
    "calibration": {"samples": 32},
    "evaluation": {"samples": 32},
}
Interval = tuple[float, float]

TURN = """
import sys
from pathlib import Path
from tasks.device import device_turn
key, device_turn._FOLDER = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
with device_turn.device_turn(key):
    print("mine", flush=True)
    sys.stdin.readline()
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with (
        postgres() as database,
        up(tmp_path_factory.mktemp("limits"), PREFECT_API_DATABASE_CONNECTION_URL=database) as started,
    ):
        yield started


# --- four runs at once ----------------------------------------------------------------------------------------------


def test_of_four_runs_two_run_at_once_and_one_benchmarks(running: Up) -> None:
    runs = [trigger(running.api_url, "optimize/optimize", {"parameters": parameters(n)}) for n in range(RUNS)]
    for run in runs:
        state = wait_for(running.api_url, run, 400)
        assert state.is_completed(), run_log(running.api_url, run)

    ran = [running_interval(running, run) for run in runs]
    assert most_at_once(ran) == 2

    benchmarks = [benchmark(running, run) for run in runs]
    for (begin, end), (other_begin, other_end) in combinations(benchmarks, 2):
        both = min(end, other_end) - max(begin, other_begin)
        # The times are those of the log, which is a little later than the benchmark's end.
        assert both < BENCHMARK_S / 4, benchmarks
    logs = [run_log(running.api_url, run) for run in runs]
    waited = [log for log in logs if "another benchmark is using the CPU: waiting" in log]
    assert waited, "nobody had to wait: this has shown nothing"
    print(
        f"benchmarks (s): {[(round(a - benchmarks[0][0], 1), round(b - benchmarks[0][0], 1)) for a, b in benchmarks]}"
    )


def parameters(number: int) -> dict[str, Any]:
    """Of a run whose benchmark no other run has made."""
    return PARAMETERS | {"latency": {"batches": [1, 2, 4, 8], "rounds": 9000 + number, "seconds": BENCHMARK_S}}


def running_interval(running: Up, run: FlowRun) -> Interval:
    """From its first Running state to its end."""
    with SyncPrefectClient(running.api_url) as client:
        states = sorted(client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
    begin = next(state.timestamp for state in states if state.is_running())
    return begin.timestamp(), states[-1].timestamp.timestamp()


def most_at_once(intervals: list[Interval]) -> int:
    return max(sum(begin <= moment < end for begin, end in intervals) for moment, _ in intervals)


def benchmark(running: Up, run: FlowRun) -> Interval:
    """When its one latency step worked: the log says how long that took, waiting not included."""
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    with SyncPrefectClient(running.api_url) as client:
        records = client.read_logs(wanted)
    found = [(record, match) for record in records if (match := re.match(r"latency .* ([\d.]+) s", record.message))]
    ((record, match),) = found
    assert not record.message.endswith("(cached)")
    end = record.timestamp.timestamp()
    return end - float(match[1]), end


def test_intervals_are_counted_right() -> None:
    assert most_at_once([(0, 2), (1, 3), (2, 4), (5, 6)]) == 2
    assert most_at_once([(0, 3), (1, 3), (2, 4), (5, 6)]) == 3


# --- one that is killed ---------------------------------------------------------------------------------------------

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(running, key, host)`: a process that takes a turn and keeps it until it gets a line; each host has its own
    folder for locks."""
    started: list[subprocess.Popen[str]] = []

    def run(running: Up, key: str, host: str) -> subprocess.Popen[str]:
        (tmp_path / host).mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", TURN, key, str(tmp_path / host)],
            env=running.environment | {"PREFECT_API_URL": running.api_url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        started.append(process)
        assert says(process) == "ready"
        return process

    with (tmp_path / "log").open("w") as log:
        yield run
    for process in started:
        process.kill()
        process.communicate()
    print((tmp_path / "log").read_text())


@pytest.fixture
def key() -> str:
    """A device that only this test knows."""
    return f"gpu-{next(iter(new_mark().values()))}"


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def slots(running: Up, key: str) -> int:
    with SyncPrefectClient(running.api_url) as client:
        limit = client.read_global_concurrency_limit_by_name(f"clipsmith-{key}")
    assert limit.limit == 1
    return limit.active_slots


@pytest.mark.parametrize(("host", "within_s"), [("same", 3.0), ("other", 55.0)])
def test_a_killed_holder_does_not_keep_the_next_one_waiting(
    host: str, within_s: float, running: Up, start: Start, key: str
) -> None:
    """On the same host at once. Where the host's lock is not shared, when it has been silent for long: here before its
    lease, which has just begun, ends."""
    holder = start(running, key, "same")
    assert says(holder) == "mine"
    waiter = start(running, key, host)
    time.sleep(4)
    assert slots(running, key) == 1
    os.kill(holder.pid, signal.SIGKILL)
    killed = time.monotonic()
    assert says(waiter) == "mine"
    took = time.monotonic() - killed
    print(f"killed on the same host, waiting on the {host} one: {took:.1f} s")
    assert took < within_s
    if host == "other":
        assert took > 30, "the slot on the server has kept nobody out"
    assert slots(running, key) == 1
    waiter.communicate("\n", timeout=30)
    assert waiter.returncode == 0
    assert slots(running, key) == 0


def test_hosts_that_share_only_the_server_take_turns(running: Up, start: Start, key: str) -> None:
    first = start(running, key, "one")
    assert says(first) == "mine"
    second = start(running, key, "two")
    assert not select.select([second.stdout], [], [], SILENCE_S + 8)[0], "it did not wait"
    out, _ = first.communicate("\n", timeout=30)
    ended = time.monotonic()
    assert (out, first.returncode) == ("done\n", 0)
    assert says(second) == "mine"
    assert time.monotonic() - ended < 5
    second.communicate("\n", timeout=30)
    with SyncPrefectClient(running.api_url) as client:
        assert client.read_variable_by_name(variable_name(f"clipsmith-{key}")) is None


def test_a_server_that_goes_away_costs_no_measurement(tmp_path: Path, start: Start, key: str) -> None:
    with up(tmp_path / "gone") as gone:
        holder = start(gone, key, "one")
        assert says(holder) == "mine"
        stop_up(gone)
        begun = time.monotonic()
        out, _ = holder.communicate("\n", timeout=120)
        print(f"the turn ended {time.monotonic() - begun:.1f} s after the block")
    assert (out, holder.returncode) == ("done\n", 0)
