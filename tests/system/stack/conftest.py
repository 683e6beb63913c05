"""The one stack that the tests of this folder share: PostgreSQL, `clipsmith up` with server and worker, a webhook.

What is a test's own it makes itself: a model's name, a store, or what it finds to be new. What would disturb the others
(variants, pools, schedules) it takes away again. The demo of the nightly run sleeps: see `servers.sleeping_variants`.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.schemas.objects import FlowRun

from tests.system.receiver import Receiver, receiving
from tests.system.servers import Up, postgres, read_run, run_log, trigger, up, wait_for

# `package` is this folder: in a process that goes on with other tests the stack is not left running.


@pytest.fixture(scope="package")
def receiver() -> Iterator[Receiver]:
    """Where the server tells of runs and regressions."""
    with receiving() as found:
        yield found


@pytest.fixture(scope="package")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every connection that `up` and what it starts make is written to; empty where there is no strace."""
    return tmp_path_factory.mktemp("strace") / "connections"


@pytest.fixture(scope="package")
def canaries(receiver: Receiver) -> dict[str, str]:
    """Variables with secrets that `up` is started with, each of which is found nowhere else."""
    names = ("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    kept = {name: f"canary{secrets.token_hex(16)}" for name in names}
    return kept | {"CLIPSMITH_WEBHOOK_URL": f"{receiver.url}/canary{secrets.token_hex(16)}"}


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory, canaries: dict[str, str], traced: Path) -> Iterator[Up]:
    """A server on PostgreSQL with a worker."""
    under: tuple[str, ...] = ()
    if shutil.which("strace"):
        # -D: the tracer is not in between, so signals go to `up` itself.
        under = ("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect", "-e", "signal=none")
        under += ("-o", str(traced))
    folder = tmp_path_factory.mktemp("stack")
    with (
        postgres() as database,
        up(folder, under=under, PREFECT_API_DATABASE_CONNECTION_URL=database, **canaries) as started,
    ):
        yield started


@pytest.fixture(scope="package")
def demo_run(running: Up) -> FlowRun:
    """The demo, started with no parameters and Completed."""
    run = trigger(running.api_url, "optimize/optimize")
    state = wait_for(running.api_url, run, 300)
    assert state.is_completed(), run_log(running.api_url, run)
    return read_run(running.api_url, run)
