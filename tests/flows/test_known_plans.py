"""What a plan led to is remembered in the store's cache, and what cannot be read is not known."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from artifacts.refs import ArtifactRef
from artifacts.store import results
from artifacts.store.store import Store
from flows.known_plans import KnownPlans
from flows.plan_changes import read_content
from tasks.pipeline.publish import Published
from tests.artifacts.support import SHA, add, make_release
from tests.flows.conftest import flip


def entry(store: Store, kind: str) -> str:
    """The name of the one entry of this kind in the store's cache."""
    (path,) = (store.root / "cache" / "results").glob(f"{kind}-*.json")
    return path.stem


def published(store: Store, ref: str = "a@1") -> Published:
    return Published(ref=ref, identity=SHA, store=str(store.root), new=True)


def test_a_plan_and_its_run_are_found_again_by_another_process(store: Store) -> None:
    run, made = uuid4(), published(store)
    KnownPlans(store).remember("plan", run, made)
    others = KnownPlans(store)
    assert others.known("plan") == made == others.made_by(run) == others.made_by(str(run))
    assert others.known("another-plan") is None
    assert others.made_by(uuid4()) is None


def test_what_a_plan_leads_to_now_counts(store: Store) -> None:
    plans = KnownPlans(store)
    for ref in ("a@1", "a@2"):
        plans.remember("plan", uuid4(), published(store, ref))
        found = plans.known("plan")
        assert found is not None
        assert found.ref == ref


def test_the_objects_of_a_plans_release_are_checked_ahead(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, _ = make_release(store, "a", SHA, add(store))
    plans = KnownPlans(store)
    checked: list[list[ArtifactRef]] = []
    monkeypatch.setattr(Store, "check_ahead", lambda _, refs: checked.append(list(refs)))
    assert not plans.check_ahead("plan")
    plans.remember("plan", uuid4(), published(store, "a@9"))
    assert not plans.check_ahead("plan")  # a release that is not there
    assert checked == []
    plans.remember("plan", uuid4(), published(store, manifest.ref))
    assert plans.check_ahead("plan")
    assert checked == [manifest.objects()]


def test_another_store_has_not_what_this_one_has(store: Store, tmp_path: Path) -> None:
    KnownPlans(store).remember("plan", uuid4(), published(store))
    assert KnownPlans(Store.open(tmp_path / "other")).known("plan") is None


@pytest.mark.parametrize("text", [None, "", "{}", '{"ref": "a@1", "identifier": 1}'])
def test_what_cannot_be_read_is_not_known_and_is_written_again(store: Store, text: str | None) -> None:
    plans = KnownPlans(store)
    plans.remember("plan", uuid4(), published(store))
    if text is None:
        flip(store.root / "cache" / "results" / f"{entry(store, 'plan')}.json")
    else:  # another version kept something else
        results.write(store, entry(store, "plan"), text)
    assert KnownPlans(store).known("plan") is None
    plans.remember("plan", uuid4(), published(store))
    assert KnownPlans(store).known("plan") == published(store)


@pytest.mark.parametrize("foreign", [False, True])
def test_what_decided_a_variants_last_release_is_known(store: Store, foreign: bool) -> None:
    plans = KnownPlans(store)
    content = read_content(
        {"source": {}, "calibration": None, "evaluation": "1", "recipe": None, "settings": {}, "steps": {}}
        | {"clipsmith": "0.1.0"}
    )
    assert content is not None
    name = "Größe 2/../x"
    assert plans.variant(name) is None
    plans.remember_variant(name, content | {"clipsmith": "0.0.9"})  # type: ignore[typeddict-item]
    plans.remember_variant(name, content)
    if foreign:  # another version kept something else
        results.write(store, entry(store, "variant"), '{"evaluations": "1"}')
    assert KnownPlans(store).variant(name) == (None if foreign else content)
    assert plans.variant("w") is None


def test_a_release_is_judged_once_in_a_store(store: Store, tmp_path: Path) -> None:
    plans = KnownPlans(store)
    assert not plans.judged(SHA)
    plans.remember_judged(SHA)
    plans.remember_judged(SHA)
    assert KnownPlans(store).judged(SHA)
    assert not KnownPlans(Store.open(tmp_path / "other")).judged(SHA)
    assert entry(store, "judged") == f"judged-{SHA}"
