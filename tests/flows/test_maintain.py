"""The flow that keeps a store sound and small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import StoreDamaged
from artifacts.keeping.promotion import promote
from artifacts.store.garbage import Collected
from artifacts.store.store import Store
from artifacts.store.verification import Problem, Verification, verify
from flows.maintain import MaintainParameters, maintain
from tasks.prefect_ui import pages, upkeep
from tests.artifacts.support import add, digest, make_release, place, rewrite


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the UI is given, by key."""
    found: dict[str, Any] = {}

    def table(key: str, table: list[dict[str, str]], description: str) -> None:
        found[key] = (table, description)

    def text(key: str, markdown: str, description: str | None) -> None:
        assert description is None
        found[key] = ([], markdown)

    monkeypatch.setattr(pages, "create_table_artifact", table)
    monkeypatch.setattr(pages, "create_markdown_artifact", text)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with `a@1` (production), `a@2`, `a@3`, and an object of no release."""
    store = Store.open(tmp_path / "kept")
    for n in range(1, 4):
        make_release(store, "a", digest(str(n)), add(store, str(n).encode() * 1000))
    add(store, b"nobody's" * 1000)
    promote(store, "a@1", "production")
    store.close()
    return store.root


def damage(root: Path, ref: str, data: bytes = b"rotten") -> Path:
    store = Store.open(root, writable=False)
    (thing,) = store.find(ref).objects()
    path = place(store, thing) / "a.bin"
    rewrite(path, data)
    return path


def releases(root: Path) -> list[str]:
    return sorted(manifest.ref for manifest in Store.open(root, writable=False).releases())


def test_a_sound_store_is_verified_and_swept(root: Path, shown: dict[str, Any]) -> None:
    objects = len(list((root / "objects").glob("*/*")))
    maintain(MaintainParameters(store=str(root)))
    assert len(list((root / "objects").glob("*/*"))) == objects - 1
    assert releases(root) == ["a@1", "a@2", "a@3"]
    assert shown["clipsmith-verify"][1].startswith("sound: 3 releases, 4 objects")
    rows, text = shown["clipsmith-gc"]
    assert [row["what"] for row in rows] == ["object"]
    assert "removed 0 releases, 1 objects" in text


def test_old_releases_are_retired_but_not_those_with_an_alias(root: Path, shown: dict[str, Any]) -> None:
    before = sorted(path for path in root.rglob("*") if "objects" in path.parts)
    maintain(MaintainParameters(store=str(root), keep=1, dry_run=True))
    assert releases(root) == ["a@1", "a@2", "a@3"]
    assert sorted(path for path in root.rglob("*") if "objects" in path.parts) == before
    assert shown["clipsmith-gc"][1].startswith("would remove 1 releases, 2 objects")
    maintain(MaintainParameters(store=str(root), keep=1))
    assert releases(root) == ["a@1", "a@3"]
    assert {"what": "release, retired", "which": "a@2"} in shown["clipsmith-gc"][0]


@pytest.mark.parametrize("repair", [False, True])
def test_damage_fails_the_run_and_nothing_is_removed(root: Path, shown: dict[str, Any], repair: bool) -> None:
    where = damage(root, "a@2")
    objects = len(list((root / "objects").glob("*/*")))
    with pytest.raises(StoreDamaged) as caught:
        maintain(MaintainParameters(store=str(root), repair=repair))
    assert where.parent.name in str(caught.value)
    assert "clipsmith pull a@2" in str(caught.value)
    (row,) = shown["clipsmith-verify"][0]
    assert (row["problem"], row["releases"]) == ("damaged", "a@2")
    assert "clipsmith-gc" not in shown
    assert len(list((root / "objects").glob("*/*"))) == objects - repair  # set aside, in quarantine
    assert ("clipsmith-repair" in shown) is repair


def test_what_can_be_repaired_is_and_the_run_goes_on(root: Path, shown: dict[str, Any]) -> None:
    store = Store.open(root)
    make_release(store, "b", digest("b"), add(store, b"2" * 1000, "same.bin"))  # the bytes of a@2 under another name
    store.close()
    damage(root, "a@2")
    with pytest.raises(StoreDamaged):
        maintain(MaintainParameters(store=str(root), repair=True, dry_run=True))
    assert verify(root).problems
    maintain(MaintainParameters(store=str(root), repair=True))
    assert not verify(root).problems
    assert [row["what"] for row in shown["clipsmith-repair"][0]] == ["restored"]
    assert "clipsmith-gc" in shown


def test_only_what_was_asked_for(root: Path, shown: dict[str, Any]) -> None:
    damage(root, "a@2")
    maintain(MaintainParameters(store=str(root), verify=False))
    assert list(shown) == ["clipsmith-gc"]
    with pytest.raises(StoreDamaged):
        maintain(MaintainParameters(store=str(root), collect=False))


def test_many_problems_are_counted_and_the_first_named(root: Path) -> None:
    problems = tuple(Problem("missing", f"objects/{n}", "gone") for n in range(7))
    with pytest.raises(StoreDamaged, match="and 2 more") as caught:
        upkeep.require_sound(Verification(problems=problems), root)
    assert "not sound: 7 missing" in str(caught.value)
    assert "objects/4" in str(caught.value)
    assert "objects/5" not in str(caught.value)


def test_a_long_table_is_cut_and_says_so(shown: dict[str, Any]) -> None:
    rows = upkeep.collected_rows(Collected(releases=(), objects=tuple(map(str, range(1500))), leftovers=(), bytes=0))
    upkeep._table("k", rows, "removed much")
    assert (len(shown["k"][0]), shown["k"][1]) == (1000, "removed much; the first 1000 are shown")


def test_artifacts_are_accepted_by_prefect(root: Path) -> None:
    """Without a stand-in: keys and contents are such that the API takes them."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    state = maintain(MaintainParameters(store=str(root), keep=1), return_state=True)
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        keys = {artifact.key for artifact in client.read_artifacts(artifact_filter=mine)}
    assert keys == {"clipsmith-verify", "clipsmith-gc"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"verify": False, "collect": False}, "nothing to do"),
        ({"verify": False, "repair": True}, "repair needs verify"),
        ({"collect": False, "keep": 3}, "keep needs collect"),
        ({"keep": 0}, "keep"),
        ({"keep": 10_001}, "keep"),
        ({"verfy": True}, "verfy"),
    ],
)
def test_wrong_parameters_are_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MaintainParameters.model_validate(values)


def test_all_is_the_word_for_none() -> None:
    assert MaintainParameters.model_validate({"keep": "all"}) == MaintainParameters()
    given = MaintainParameters(keep=3)
    assert MaintainParameters.model_validate_json(given.model_dump_json()) == given
