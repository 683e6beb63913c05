"""The cache as Prefect keeps it, and how a run ends at its gates; what depends on what is in `test_wiring.py`."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flows.wiring
import tasks.pipeline.engine_build
from artifacts.errors import BuildError, GateFailed, ReleaseRejected
from artifacts.keeping.promotion import promote
from artifacts.manifest import GateResult, Manifest
from artifacts.store.store import Store
from tasks.engines.child import build_in_child
from tests.flows.conftest import flip
from tests.flows.expected_steps import EVERYTHING, TEXT_FP16

Run = Callable[..., tuple[Manifest, list[str]]]


@pytest.fixture(scope="session")
def base_store(run: Run, small_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one release of the small CLIP; tests add to it and never rely on what others add."""
    store = tmp_path_factory.mktemp("caching") / "store"
    manifest, calls = run(small_clip, store)
    assert manifest.ref == "small@1"
    assert calls == sorted(EVERYTHING)
    return store


@pytest.fixture
def mine(base_store: Path, tmp_path: Path) -> Path:
    """A copy of `base_store` for one test: the same identity, objects and cache, elsewhere."""
    return Path(shutil.copytree(base_store, tmp_path / "store"))


def test_the_same_content_elsewhere_is_the_same_model(run: Run, small_clip: Path, mine: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_clip, tmp_path / "another" / "small"))
    manifest, calls = run(folder, mine)
    assert calls == []
    assert manifest.ref == "small@1"


def test_a_moved_store_keeps_its_cache(run: Run, small_clip: Path, mine: Path, tmp_path: Path) -> None:
    mine.rename(tmp_path / "moved")
    manifest, calls = run(small_clip, tmp_path / "moved")
    assert (calls, manifest.ref) == ([], "small@1")


def test_a_second_run_is_the_same_release_and_prefect_says_cached(run: Run, small_clip: Path, mine: Path) -> None:
    from prefect.client.orchestration import get_client

    before = sorted(path for path in (mine / "releases").rglob("*"))
    manifest, calls = run(small_clip, mine)
    assert calls == []
    assert sorted(path for path in (mine / "releases").rglob("*")) == before
    assert manifest.to_bytes() == (mine / "releases" / "small" / "1.json").read_bytes()
    with get_client(sync_client=True) as client:
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
        from prefect.client.schemas.sorting import FlowRunSort

        recent = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=50)  # other tests' runs among them
        (latest,) = [run for run in recent if run.parameters.get("parameters", {}).get("store") == str(mine)]
        assert latest.name == "small@1 fp8"
        of_it = FlowRunFilter(id=FlowRunFilterId(any_=[latest.id]))
        deadline = time.monotonic() + 60  # the server learns of task runs by events, some time after them
        while len(runs := client.read_task_runs(flow_run_filter=of_it)) < len(EVERYTHING) + 5:
            assert time.monotonic() < deadline, [run.name for run in runs]
            time.sleep(0.2)
    uncached = {run.name.rpartition("-")[0] for run in runs if run.state_name != "Cached"}
    assert uncached == {"resolve", "pin-data", "publish", "show-tables", "show-release"}
    assert len(runs) == len(EVERYTHING) + len(uncached)


def objects(manifest: Manifest, kind: str) -> list[Any]:
    return [file for file in manifest.files if file.kind == kind]


@pytest.mark.parametrize("how", ["deleted", "flipped"])
def test_a_damaged_graph_is_written_again(run: Run, small_clip: Path, mine: Path, how: str) -> None:
    manifest = Store.open(mine, writable=False).find("small@1")
    (file,) = [file for file in manifest.files if file.path == "text/fp8.onnx"]
    folder = mine / "objects" / file.object[:2] / file.object
    if how == "deleted":
        shutil.rmtree(folder)
    else:
        flip(folder / file.member)
    again, calls = run(small_clip, mine)
    assert calls == ["export-fp8 text"]
    assert [f.sha256 for f in again.files if f.path == "text/fp8.onnx"] == [file.sha256]


def test_builds_overlap(run: Run, small_clip: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2)  # breaks unless two builds are there at once

    def at_once(job: Any) -> Any:
        together.wait(timeout=60)
        return build_in_child(job)

    monkeypatch.setattr(flows.wiring, "builds_at_once", lambda _: 2)
    monkeypatch.setattr(tasks.pipeline.engine_build, "build_in_child", at_once)
    release, _ = run(small_clip, mine, profile__opt=16)
    builds = [row for row in release.tables["stages"] if row["step"] == "build"]
    assert [(row["encoder"], row["precision"]) for row in builds] == [
        (encoder, precision) for encoder in ("image", "text") for precision in ("fp16", "fp8")
    ]


def test_a_build_that_fails_publishes_nothing(
    run: Run, small_clip: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_job: Any) -> Any:
        raise BuildError("the builder refuses the graph")

    monkeypatch.setattr(tasks.pipeline.engine_build, "build_in_child", refuse)
    with pytest.raises(BuildError, match="refuses the graph"):
        run(small_clip, mine, profile__opt=16)
    assert [release.ref for release in Store.open(mine, writable=False).releases()] == ["small@1"]


def flow_state(store: Path) -> Any:
    """What Prefect says of the latest run with this store."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        recent = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=50)
    given = ((run, run.parameters.get("parameters") or {}) for run in recent)  # other flows have others
    return next(run.state for run, parameters in given if parameters.get("store") == str(store))


def test_a_failed_gate_publishes_a_rejected_release_and_the_run_fails(run: Run, small_clip: Path, mine: Path) -> None:
    for new in (True, False):  # again: the same release, and again a failure
        with pytest.raises(GateFailed, match="small@2 is published as rejected") as caught:
            run(small_clip, mine, gates__min_cosine_mean=1.0)
        assert (caught.value.exit_code, caught.value.release, caught.value.new) == (3, "small@2", new)
        assert "min_cosine_mean failed: mean cosine with FP32 (image, onnxruntime)" in str(caught.value)
        state = flow_state(mine)
        assert state.is_failed()
        assert "small@2 is published as rejected" in state.message
    store = Store.open(mine, writable=False)
    assert [(manifest.ref, manifest.status) for manifest in store.releases()] == [
        ("small@2", "rejected"),
        ("small@1", "accepted"),
    ]
    manifest = store.find("small@2")
    for file in manifest.files:
        store.read(manifest, file.path)  # it is whole
    assert "Rejected." in store.read(manifest, "report.html").read_text()
    with pytest.raises(ReleaseRejected, match="min_cosine_mean"):
        promote(Store.open(mine), "small@2", "production")
    first = store.find("small@1")
    assert [f.sha256 for f in manifest.files if f.kind == "onnx"] == [f.sha256 for f in first.files if f.kind == "onnx"]


def test_a_gate_that_was_set_and_not_measured_rejects(run: Run, small_clip: Path, mine: Path) -> None:
    with pytest.raises(GateFailed, match=r"max_recall_drop not measured.*needs an evaluation set with captions"):
        run(small_clip, mine, gates__max_recall_drop=0.5)
    with pytest.raises(GateFailed, match="max_size_ratio not measured"):
        run(small_clip, mine, gates__max_size_ratio=0.5, precisions=["fp8"])


def test_gates_that_have_nothing_to_speak_about_are_left_out(run: Run, small_clip: Path, mine: Path) -> None:
    manifest, _ = run(small_clip, mine, **TEXT_FP16)
    assert (manifest.gates, manifest.status) == ((), "accepted")


def test_an_undecided_gate_rejects(
    run: Run, small_clip: Path, mine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import flows.wiring as flow

    result = GateResult(name="max_top1_drop", status="undecided", max=0.01, value=0.005, low=0.0, high=0.02)
    result = result.model_copy(update={"samples": 20, "needed": 300})
    monkeypatch.setattr(flow, "judge", lambda *_: (result,))
    with pytest.raises(GateFailed, match="280 more samples than these 20 would settle it"):
        run(small_clip, mine)
    manifest = Store.open(mine).find("small")
    assert (manifest.ref, manifest.status, manifest.gates) == ("small@2", "rejected", (result,))
    (warning,) = [record.message for record in caplog.records if record.message.startswith("gate max_top1_drop")]
    assert "is 0.50 points (95 % interval 0.00 to 2.00), asked for at most 1 points" in warning
