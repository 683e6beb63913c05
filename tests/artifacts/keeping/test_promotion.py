"""Aliases move by compare-and-swap, keep who and why, and never point to what is not there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from artifacts import fs
from artifacts.errors import (
    AliasMoved,
    AliasNotFound,
    BadName,
    ConfigError,
    DamagedAlias,
    DamagedManifest,
    NothingToRollBack,
    ObjectMissing,
    ReleaseNotFound,
    ReleaseRejected,
)
from artifacts.keeping.promotion import promote, rollback
from artifacts.manifest import GateResult
from artifacts.store import aliases, layout
from artifacts.store.store import Store
from artifacts.store.who import current_user
from tests.artifacts.support import add, digest, make_release, place, rewrite
from tests.wording import refusal


@pytest.fixture
def three(store: Store) -> Store:
    """`a@1`, `a@2` and `a@3`."""
    for n in range(1, 4):
        make_release(store, "a", digest(str(n)), add(store, str(n).encode()))
    return store


def entries(store: Store, alias: str = "production") -> list[Path]:
    return sorted(layout.alias_folder(store.root, "a", alias).iterdir())


def test_an_alias_points_to_what_was_promoted_and_says_who_and_why(three: Store) -> None:
    before, after, moved = promote(three, "a@2", "production", why="it is better")
    assert (before, moved) == (None, True)
    assert (after.ref, after.number, after.action, after.forced) == ("a@2", 1, "promote", False)
    assert (after.who, after.why) == (current_user(), "it is better")
    assert three.find("a:production") == three.find("a@2")
    assert Store.open(three.root, writable=False).find("a:production").version == 2
    with refusal(AliasNotFound, "aliases"):
        three.find("a:staging")


def test_promoting_what_an_alias_points_to_changes_nothing(three: Store) -> None:
    promote(three, "a@2", "production")
    again = promote(three, "a@2", "production", why="again")
    assert not again.moved
    assert len(entries(three)) == 1


def test_history_is_kept(three: Store) -> None:
    for version in (1, 3, 2):
        promote(three, f"a@{version}", "production", why=f"number {version}")
    found = aliases.history(three.root, "a", "production")
    assert [(e.number, e.version, e.why) for e in found] == [
        (1, 1, "number 1"),
        (2, 3, "number 3"),
        (3, 2, "number 2"),
    ]
    assert aliases.pointing_to(three.root) == {("a", 2): ["production"]}
    assert aliases.held(three.root) == {("a", 2): ["production"], ("a", 3): ["production"]}


def test_rollback_undoes_promotions_one_by_one(three: Store) -> None:
    for version in (1, 3, 2):
        promote(three, f"a@{version}", "production")
    assert [rollback(three, "a", "production").after.ref for _ in range(2)] == ["a@3", "a@1"]
    with pytest.raises(NothingToRollBack, match="a@1"):
        rollback(three, "a", "production")
    promote(three, "a@2", "production")
    assert rollback(three, "a", "production", why="too slow").after.ref == "a@1"
    assert three.find("a:production").version == 1
    assert len(entries(three)) == 7
    with pytest.raises(AliasNotFound):
        rollback(three, "a", "staging")


def test_rollback_to_a_release_undoes_all_that_came_after_it(three: Store) -> None:
    for version in (1, 2, 3, 2):
        promote(three, f"a@{version}", "production")
    assert rollback(three, "a", "production", to=1).after.ref == "a@1"
    with pytest.raises(NothingToRollBack, match="nothing but a@1"):
        rollback(three, "a", "production")
    for version in (3, 2):
        promote(three, f"a@{version}", "production")
    with refusal(NothingToRollBack, "production"):
        rollback(three, "a", "production", to=7)
    assert not rollback(three, "a", "production", to=2).moved, "it points there"
    assert rollback(three, "a", "production", to=3).after.ref == "a@3"
    assert aliases.held(three.root) == {("a", 3): ["production"], ("a", 1): ["production"]}
    assert rollback(three, "a", "production").after.ref == "a@1"
    with pytest.raises(NothingToRollBack, match="cannot go back to a@3"):  # undone: that would be a promotion
        rollback(three, "a", "production", to=3)
    assert len(entries(three)) == 9


def test_an_alias_that_somebody_else_moved_is_not_moved(three: Store) -> None:
    promote(three, "a@1", "production", seen=0)
    with pytest.raises(AliasMoved, match="to a@1, by"):
        promote(three, "a@2", "production", seen=0)
    promote(three, "a@2", "production", seen=1)
    assert three.find("a:production").version == 2


def test_racing_promoters_cannot_both_win(three: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have looked, and both write: the kernel lets one of them."""
    promote(three, "a@1", "production")
    meet = threading.Barrier(2, timeout=20)
    write = fs.write_exclusive

    def wait(path: Path, data: bytes, scratch: Path) -> None:
        if "aliases" in path.parts:
            meet.wait()
        write(path, data, scratch)

    monkeypatch.setattr(fs, "write_exclusive", wait)
    outcomes: list[str] = []

    def run(version: int) -> None:
        try:
            outcomes.append(promote(three, f"a@{version}", "production").after.ref)
        except AliasMoved:
            outcomes.append("lost")

    threads = [threading.Thread(target=run, args=(version,)) for version in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[1] == "lost"
    assert three.find("a:production").ref == sorted(outcomes)[0]
    assert len(entries(three)) == 2


@pytest.mark.parametrize("reference", ["a@9", "b", "0" * 12])
def test_only_releases_that_exist_can_be_promoted(three: Store, reference: str) -> None:
    with pytest.raises(ReleaseNotFound):
        promote(three, reference, "production")
    assert list((three.root / "aliases").iterdir()) == []


def test_a_release_that_lost_an_object_cannot_be_promoted(store: Store) -> None:
    ref = add(store)
    make_release(store, "a", digest("1"), ref)
    (place(store, ref) / "a.bin").unlink()
    with pytest.raises(ObjectMissing, match=r"image/a\.bin"):
        promote(store, "a", "production")
    assert list((store.root / "aliases").iterdir()) == []


def test_an_alias_does_not_follow_a_replaced_manifest(three: Store) -> None:
    """The alias names the manifest's bytes: another well-formed manifest in its place is not what was promoted."""
    promote(three, "a@1", "production")
    manifest = three.find("a@1")
    other = manifest.model_copy(update={"created": "2027-01-01T00:00:00+00:00"})
    rewrite(layout.manifest_path(three.root, "a", 1), other.to_bytes())
    with refusal(DamagedManifest, "1.json"):
        three.find("a:production")


def test_force_needs_a_reason(three: Store) -> None:
    with pytest.raises(ConfigError, match="--why"):
        promote(three, "a@1", "production", force=True)
    with pytest.raises(BadName):
        promote(three, "a@1", "Production")
    assert list((three.root / "aliases").iterdir()) == []


def test_a_damaged_entry_is_found_and_promoting_again_gets_past_it(three: Store) -> None:
    promote(three, "a@1", "production")
    path = entries(three)[0]
    rewrite(path, path.read_bytes().replace(b'"version":1', b'"version":2'))
    with refusal(DamagedAlias, "1.json"):
        three.find("a:production")
    assert promote(three, "a@3", "production").before is None
    assert three.find("a:production").version == 3
    with pytest.raises(DamagedAlias):
        rollback(three, "a", "production")


def test_a_copied_entry_is_not_an_entry_of_another_alias(three: Store) -> None:
    promote(three, "a@1", "production")
    copy = layout.alias_folder(three.root, "a", "staging") / "1.json"
    copy.parent.mkdir()
    copy.write_bytes(entries(three)[0].read_bytes())
    with pytest.raises(DamagedAlias, match="not in its place"):
        three.find("a:staging")


def test_a_missing_entry_is_found_by_whoever_needs_the_history(three: Store) -> None:
    for version in (1, 2, 3):
        promote(three, f"a@{version}", "production")
    entries(three)[1].unlink()
    assert three.find("a:production").version == 3
    with pytest.raises(DamagedAlias, match="entry 2"):
        rollback(three, "a", "production")


def failed_gate(name: str = "max_top1_drop") -> tuple[GateResult, ...]:
    return (GateResult(name=name, status="failed", max=0.005, value=0.02, low=0.01, high=0.03),)


def test_a_rejected_release_is_promoted_only_with_force_and_a_reason(three: Store) -> None:
    make_release(three, "a", digest("bad"), add(three), gates=failed_gate())
    with refusal(ReleaseRejected, "store"):
        promote(three, "a@4", "production")
    with pytest.raises(ReleaseRejected):
        promote(three, "a@4", "production", why="it looks fine")
    assert list((three.root / "aliases").iterdir()) == []
    entry = promote(three, "a@4", "production", force=True, why="the hotfix matters more").after
    assert (entry.forced, entry.why) == (True, "the hotfix matters more")
    assert three.find("a:production").rejected


def test_an_undecided_gate_of_before_results_had_samples_does_not_reject(store: Store) -> None:
    gates = (GateResult(name="max_top1_drop", status="undecided", max=0.005, value=0.004, low=-0.01, high=0.02),)
    make_release(store, "a", digest("1"), add(store), gates=gates)
    assert promote(store, "a", "production").after.forced is False


def test_force_on_a_release_that_needs_none_is_not_recorded_as_forced(three: Store) -> None:
    assert promote(three, "a@1", "production", force=True, why="to be sure").after.forced is False
