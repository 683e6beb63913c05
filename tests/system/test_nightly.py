"""The nightly run on a real server: its variants are runs of their own, and unchanged ones are not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowFilter,
    FlowFilterName,
)
from prefect.client.schemas.objects import FlowRun

from artifacts.store.store import Store
from tests.system.servers import Up, postgres, read_run, run_log, trigger, up, wait_for

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
SMALL: dict[str, Any] = {
    "targets": ["onnxruntime"],
    "calibration": {"samples": 16, "batch": 4},
    "evaluation": {"samples": 20, "batch": 8},
    "latency": {"batches": [1], "rounds": 5},
    "gates": {"min_cosine_mean": 0.5},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installation's folder; `variants` in it is where variants are read."""
    path = tmp_path_factory.mktemp("nightly")
    (path / "variants").mkdir()
    return path


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Up]:
    """A server on PostgreSQL with a worker."""
    with postgres() as database:
        environment = {
            "PREFECT_API_DATABASE_CONNECTION_URL": database,
            "CLIPSMITH_VARIANTS": str(folder / "variants"),
        }
        with up(folder, **environment) as started:
            yield started


def write(folder: Path, name: str, **changes: Any) -> None:
    text = yaml.safe_dump({"promote": "production", "parameters": SMALL | changes})
    (folder / "variants" / f"{name}.yaml").write_text(text)


def runs_of(api_url: str, flow: str) -> set[UUID]:
    with SyncPrefectClient(api_url) as client:
        return {run.id for run in client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))}


def summary(api_url: str, run: FlowRun) -> list[dict[str, Any]]:
    """The night's table, as the UI shows it."""
    wanted = ArtifactFilter(
        key=ArtifactFilterKey(any_=["clipsmith-nightly"]), flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])
    )
    with SyncPrefectClient(api_url) as client:
        (artifact,) = client.read_artifacts(artifact_filter=wanted)
    return json.loads(str(artifact.data))


def night(running: Up, timeout: float) -> tuple[FlowRun, str, str, float]:
    """The run, the name and message of the state that it ended in, and how many seconds it was running."""
    run = trigger(running.api_url, "nightly/nightly", {"parameters": {}})
    state = wait_for(running.api_url, run, timeout)
    return run, state.name or "", state.message or "", read_run(running.api_url, run).total_run_time.total_seconds()


def test_nights_make_what_has_changed_and_skip_the_rest(running: Up, folder: Path) -> None:
    write(folder, "demo")
    write(folder, "missing", model="/nowhere/at/all")
    run, name, message, _ = night(running, 300)
    assert name == "Failed", run_log(running.api_url, run)
    assert "1 of 2 variants failed: missing" in message
    store = Store.open(folder / "store", writable=False)
    assert store.find("demo:production").ref == "demo@1", "the good one was made, and its gates passed"
    made = runs_of(running.api_url, "optimize")
    assert len(made) == 1, "what cannot even be resolved starts no run"

    (folder / "variants" / "missing.yaml").unlink()
    run, name, message, seconds = night(running, 100)
    assert name == "Completed", run_log(running.api_url, run)
    assert seconds < 15
    print(f"an unchanged variant: {seconds:.1f} s")

    for number in range(99):
        write(folder, f"variant-{number}")
    run, name, _, seconds = night(running, 200)
    assert name == "Completed", run_log(running.api_url, run)
    assert seconds < 60
    print(f"100 unchanged variants: {seconds:.1f} s")
    assert runs_of(running.api_url, "optimize") == made, "an unchanged variant starts no run of its own"
    rows = summary(running.api_url, run)
    assert [row["result"] for row in rows] == ["unchanged"] * 100
    assert {row["release"] for row in rows} == {"demo@1"}

    write(folder, "variant-7", evaluation={"samples": 24, "batch": 8})
    run, name, _, _ = night(running, 300)
    assert name == "Completed", run_log(running.api_url, run)
    assert len(runs_of(running.api_url, "optimize") - made) == 1
    assert [release.ref for release in Store.open(folder / "store", writable=False).releases()][:1] == ["demo@2"]
