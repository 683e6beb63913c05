"""Clipsmith from Python, on a store of small releases. A run is that of `docs/python.md`, which `tests/docs` makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tasks.runtime
from artifacts.errors import ConfigError, GateFailed, NotAStore, ReleaseNotFound, TableError
from artifacts.manifest import Manifest
from artifacts.store.store import Store
from deployments import api
from flows.parameters import OptimizeParameters
from tasks.pipeline.publish import Published
from tests.deployments.conftest import MODEL, release


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[OptimizeParameters]:
    """What a run was asked for; it finds that the first release was there already."""
    found: list[OptimizeParameters] = []

    def run(parameters: OptimizeParameters) -> Published:
        found.append(parameters)
        return Published(ref=f"{MODEL}@1", identity="0" * 64, store=parameters.store, new=False)

    monkeypatch.setattr("deployments.server.run_optimize.run_optimize", run)
    monkeypatch.setattr("flows.preflight.check_ahead", lambda _: None)
    return found


def test_releases_are_found_newest_first(store: Store, releases: list[Manifest]) -> None:
    release(store, 1, model="other")
    found = api.releases(store=store.root)
    assert [each.ref for each in found] == ["other@1", f"{MODEL}@3", f"{MODEL}@2", f"{MODEL}@1"]
    assert [each.ref for each in api.releases("other", store=str(store.root))] == ["other@1"]
    assert [each.accepted for each in found] == [True, True, False, True]
    assert api.release(f"{MODEL}@2", store=store.root).manifest == releases[1]
    with pytest.raises(ReleaseNotFound):
        api.release(f"{MODEL}@9", store=store.root)


def test_the_store_is_the_one_of_the_environment(
    store: Store, releases: list[Manifest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLIPSMITH_STORE", str(store.root))
    assert len(api.releases()) == len(releases)
    monkeypatch.setenv("CLIPSMITH_STORE", str(tmp_path / "none"))
    with pytest.raises(NotAStore):
        api.releases()


@pytest.mark.usefixtures("releases")
def test_tables_are_frames(store: Store) -> None:
    one = api.release(MODEL, store=store.root)
    assert len(one.table("accuracy")) == len(one.manifest.tables["accuracy"])
    assert one.table("sufficiency").empty
    with pytest.raises(TableError):
        one.table("nope")


def test_the_demo_is_exported_loaded_and_reported(demo_store: Path, tmp_path: Path) -> None:
    one = api.release("demo@1", store=demo_store)
    assert one.report().read_text().startswith("<!doctype html>")
    with api.load_encoder(one.export(tmp_path / "out")) as encoder:
        assert encoder.embed_texts(["seven"]).shape == (1, 64)
    assert api.load_encoder is tasks.runtime.load_encoder


@pytest.mark.usefixtures("releases")
def test_a_run_takes_the_parameters_by_name(store: Store, asked: list[OptimizeParameters]) -> None:
    made = api.optimize(Path("/models/mine"), store=store.root, calibration={"samples": 64}, targets=["onnxruntime"])
    assert (made.ref, made.new, made.accepted, made.store) == (f"{MODEL}@1", False, True, store.root)
    (parameters,) = asked
    assert (parameters.model, parameters.store) == ("/models/mine", str(store.root))
    assert (parameters.calibration.samples, parameters.targets) == (64, ["onnxruntime"])


def test_a_wrong_parameter_is_named_and_nothing_started(asked: list[OptimizeParameters]) -> None:
    with pytest.raises(ConfigError, match=r"calibration\.sample"):
        api.optimize("demo", calibration={"sample": 64})
    assert asked == []


@pytest.mark.usefixtures("releases", "asked")
def test_a_rejected_release_is_returned(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(_: Any) -> Published:
        raise GateFailed.of("rejected", release=f"{MODEL}@2", new=True, where=store.root, fix="look")

    monkeypatch.setattr("deployments.server.run_optimize.run_optimize", reject)
    made = api.optimize(store=store.root)
    assert (made.ref, made.new, made.accepted) == (f"{MODEL}@2", True, False)
