"""Limits hold on a real server: so many runs at once, one benchmark at a time, and nobody waits for the dead."""

from __future__ import annotations

import os
import re
import select
import signal
import time
from itertools import combinations
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun

from tasks.device.server_turn import SILENCE_S, variable_name
from tests.system.servers import SMALL, Up, run_log, trigger, wait_for
from tests.system.turns import Start, key, says, start

__all__ = ["key", "start"]

pytestmark = pytest.mark.heavy

RUNS = 4
BENCHMARK_S = 2.0
"""Per batch size."""
Interval = tuple[float, float]


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
    waited = [log for log in logs if "waiting for the turn to benchmark on the CPU" in log]
    assert waited, "nobody had to wait: this has shown nothing"
    print(
        f"benchmarks (s): {[(round(a - benchmarks[0][0], 1), round(b - benchmarks[0][0], 1)) for a, b in benchmarks]}"
    )


def parameters(number: int) -> dict[str, Any]:
    """Of a run whose benchmark no other run has made."""
    return SMALL | {"latency": {"batches": [1, 2, 4, 8], "rounds": 9000 + number, "seconds": BENCHMARK_S}}


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
    found = [(record, match) for record in records if (match := re.search(r": latency .* ([\d.]+) s", record.message))]
    ((record, match),) = found
    assert not record.message.endswith("(cached)")
    end = record.timestamp.timestamp()
    return end - float(match[1]), end


def test_intervals_are_counted_right() -> None:
    assert most_at_once([(0, 2), (1, 3), (2, 4), (5, 6)]) == 2
    assert most_at_once([(0, 3), (1, 3), (2, 4), (5, 6)]) == 3


# --- one that is killed ---------------------------------------------------------------------------------------------


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
