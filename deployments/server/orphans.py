"""Flow runs whose processes are gone and that the server believes to be running: it was not there to be told.

Without this they would be Running for ever when the server died with them, as in a power cut, and keep their places
under the limit of their deployment until its leases end, five minutes later.
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
"""The label that Prefect gives to a run when a worker takes it."""


def crash_orphans(client: SyncPrefectClient, worker: str) -> list[FlowRun]:
    """Mark as Crashed the runs that the worker of this name (this host's) had and whose process is gone; they are
    returned. To be called while that worker is not running."""
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
    """Whether no process of Prefect has the run's number: another program may have got it since."""
    with suppress(OSError):
        return b"prefect" not in Path(f"/proc/{int(run.infrastructure_pid or 0)}/cmdline").read_bytes()
    return True
