"""Orphaned flow runs: their processes are gone, but the server believes them running, as it was down when they ended.

If the server died together with them, as in a power cut, they would stay Running for ever, and keep their slots
under their deployment's concurrency limit until the leases expire, five minutes later.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import FlowRun

_WORKER = "prefect.worker.name"
"""The label that Prefect gives a run when a worker takes it."""


def crash_orphans(client: SyncPrefectClient, worker: str) -> list[FlowRun]:
    """Mark as Crashed, and return, the runs of the worker of this name (this host's) whose process is gone. Call it
    while that worker is not running."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    alive = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    busy = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=alive)))
    orphans = [run for run in _all(client, busy) if run.labels.get(_WORKER) == worker and _is_gone(run)]
    for run in orphans:
        message = "its process is gone, and ended when the server was not there; what it computed is in the cache"
        client.set_flow_run_state(run.id, Crashed(message=message))
    return orphans


def _all(client: SyncPrefectClient, which: FlowRunFilter) -> list[FlowRun]:
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=which, offset=len(found)):
        found += page
    return found


def _is_gone(run: FlowRun) -> bool:
    """Whether no Prefect process has the run's pid; another program may have got that pid since."""
    with suppress(OSError):
        return b"prefect" not in Path(f"/proc/{int(run.infrastructure_pid or 0)}/cmdline").read_bytes()
    return True
