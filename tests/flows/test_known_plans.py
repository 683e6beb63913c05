"""What a plan led to is remembered where results are kept, for one store, and what cannot be read is not known."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from prefect.filesystems import LocalFileSystem

from artifacts.refs import ArtifactRef
from artifacts.store.store import Store
from flows import known_plans
from flows.known_plans import KnownPlans
from flows.plan_changes import read_content
from tasks.pipeline.publish import Published
from tests.artifacts.support import SHA, add, make_release


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's results are kept."""
    folder = tmp_path / "results"
    storage = LocalFileSystem(basepath=str(folder))
    monkeypatch.setattr(known_plans, "get_default_result_storage", lambda _sync: storage)
    return folder


def published(store: Store, ref: str = "a@1") -> Published:
    return Published(ref=ref, identity=SHA, store=str(store.root), new=True)


@pytest.mark.usefixtures("results")
def test_a_plan_and_its_run_are_found_again_by_another_process(store: Store) -> None:
    run, made = uuid4(), published(store)
    KnownPlans(store).remember("plan", run, made)
    others = KnownPlans(store)
    assert others.known("plan") == made == others.made_by(run) == others.made_by(str(run))
    assert others.known("another plan") is None
    assert others.made_by(uuid4()) is None


@pytest.mark.usefixtures("results")
def test_what_a_plan_leads_to_now_counts(store: Store) -> None:
    plans = KnownPlans(store)
    for ref in ("a@1", "a@2"):
        plans.remember("plan", uuid4(), published(store, ref))
        found = plans.known("plan")
        assert found is not None
        assert found.ref == ref


@pytest.mark.usefixtures("results")
def test_the_objects_of_a_plans_release_are_checked_ahead(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, _ = make_release(store, "a", SHA, add(store))
    plans = KnownPlans(store)
    checked: list[list[ArtifactRef]] = []
    monkeypatch.setattr(Store, "check_ahead", lambda _, refs: checked.append(list(refs)))
    plans.check_ahead("plan")
    plans.remember("plan", uuid4(), published(store, "a@9"))
    plans.check_ahead("plan")  # a release that is not there
    assert checked == []
    plans.remember("plan", uuid4(), published(store, manifest.ref))
    plans.check_ahead("plan")
    assert checked == [manifest.objects()]


@pytest.mark.usefixtures("results")
def test_another_store_has_not_what_this_one_has(store: Store, tmp_path: Path) -> None:
    KnownPlans(store).remember("plan", uuid4(), published(store))
    assert KnownPlans(Store.open(tmp_path / "other")).known("plan") is None


@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "another version"])
def test_what_cannot_be_read_is_not_known_and_is_written_again(store: Store, results: Path, damage: str) -> None:
    plans = KnownPlans(store)
    plans.remember("plan", uuid4(), published(store))
    (file,) = results.glob("plan-*")
    whole = file.read_bytes()
    # Prefect keeps the value as JSON within JSON.
    changed = {"empty": b"", "half": whole[: len(whole) // 2], "garbage": b"\xff\0"}
    file.write_bytes(changed.get(damage) or whole.replace(b"identity", b"identifier"))
    assert file.read_bytes() != whole
    assert KnownPlans(store).known("plan") is None
    plans.remember("plan", uuid4(), published(store))
    assert KnownPlans(store).known("plan") == published(store)


@pytest.mark.parametrize("damage", [None, b"", b"\xff\0", "foreign"], ids=["whole", "empty", "garbage", "foreign"])
def test_what_decided_a_variants_last_release_is_known(store: Store, results: Path, damage: bytes | str | None) -> None:
    plans = KnownPlans(store)
    content = read_content(
        {"source": {}, "calibration": None, "evaluation": "1", "recipe": None, "settings": {}, "steps": {}}
        | {"clipsmith": "0.1.0"}
    )
    assert content is not None
    assert plans.variant("v") is None
    plans.remember_variant("v", content | {"clipsmith": "0.0.9"})  # type: ignore[typeddict-item]
    plans.remember_variant("v", content)
    (file,) = results.glob("variant-*")
    if isinstance(damage, bytes):
        file.write_bytes(damage)
    elif damage == "foreign":  # another version kept something else
        file.write_bytes(file.read_bytes().replace(b"evaluation", b"evaluations"))
    assert KnownPlans(store).variant("v") == (content if damage is None else None)
    assert plans.variant("w") is None


def test_a_release_is_judged_once_in_a_store(store: Store, results: Path, tmp_path: Path) -> None:
    plans = KnownPlans(store)
    assert not plans.judged(SHA)
    plans.remember_judged(SHA)
    plans.remember_judged(SHA)
    assert KnownPlans(store).judged(SHA)
    assert not KnownPlans(Store.open(tmp_path / "other")).judged(SHA)
    assert len(list(results.glob("judged-*"))) == 1
