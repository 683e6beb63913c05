"""The nightly run on a real server: its variants are runs of their own, and unchanged ones are not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

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

from artifacts.errors import AliasNotFound
from artifacts.store.store import Store
from tests.system.servers import SMALL, Up, read_run, run_log, trigger, wait_for

pytestmark = pytest.mark.heavy
MODEL = f"night-{uuid4().hex[:8]}"
"""Its releases are made by these nights only."""
MINE: dict[str, Any] = SMALL | {"name": MODEL, "gates": {"min_cosine_mean": 0.5}}


@pytest.fixture
def variants(running: Up) -> Iterator[Path]:
    """The folder where the installation reads its variants; none is there, and at the end those that were before."""
    folder = Path(running.environment["CLIPSMITH_VARIANTS"])
    before = {path: path.read_text() for path in folder.glob("*.yaml")}
    for path in before:
        path.unlink()
    yield folder
    for path in folder.glob("*.yaml"):
        path.unlink()
    for path, text in before.items():
        path.write_text(text)


def write(variants: Path, name: str, **changes: Any) -> None:
    text = yaml.safe_dump({"promote": "production", "parameters": MINE | changes})
    (variants / f"{name}.yaml").write_text(text)


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


def test_nights_make_what_has_changed_and_skip_the_rest(running: Up, variants: Path) -> None:
    before = runs_of(running.api_url, "optimize")
    write(variants, "demo")
    write(variants, "missing", model="/nowhere/at/all")
    run, name, message, _ = night(running, 300)
    assert name == "Failed", run_log(running.api_url, run)
    assert "1 of 2 variants failed: missing" in message
    log = run_log(running.api_url, run)
    assert "Encountered exception during execution: 1 of 2 variants failed: missing" in log
    assert "Traceback" not in log
    store = Store.open(running.environment["CLIPSMITH_STORE"], writable=False)
    assert store.find(f"{MODEL}@1").gates, "the good one was made"
    with pytest.raises(AliasNotFound):
        store.find(f"{MODEL}:production")
    (good,) = [row for row in summary(running.api_url, run) if row["variant"] == "demo"]
    assert good["not promoted because"].startswith("no gate on accuracy is set")
    made = runs_of(running.api_url, "optimize") - before
    assert len(made) == 1, "what cannot even be resolved starts no run"
    assert read_run(running.api_url, run).name == "nightly all variants"
    assert [read_run(running.api_url, one).name for one in made] == [f"demo: {MODEL}@1 fp8"]

    (variants / "missing.yaml").unlink()
    run, name, message, seconds = night(running, 300)
    assert name == "Completed", run_log(running.api_url, run)
    print(f"an unchanged variant: {seconds:.1f} s")

    for number in range(99):
        write(variants, f"variant-{number}")
    run, name, _, seconds = night(running, 300)
    assert name == "Completed", run_log(running.api_url, run)
    print(f"100 unchanged variants: {seconds:.1f} s")
    assert runs_of(running.api_url, "optimize") - before == made, "an unchanged variant starts no run of its own"
    rows = summary(running.api_url, run)
    assert [row["result"] for row in rows] == ["unchanged"] * 100
    assert {row["release"] for row in rows} == {f"{MODEL}@1"}

    write(variants, "variant-7", evaluation={"samples": 24, "batch": 8})
    run, name, _, _ = night(running, 300)
    assert name == "Completed", run_log(running.api_url, run)
    assert len(runs_of(running.api_url, "optimize") - before - made) == 1
    assert [release.ref for release in store.releases() if release.model == MODEL] == [f"{MODEL}@2", f"{MODEL}@1"]
