"""P5, P8: processes that publish and promote at the same time get versions and moves of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts.errors import AliasMoved, AliasNotFound
from artifacts.keeping.promotion import promote
from artifacts.store import aliases
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.faults.checks import at_once
from tests.faults.support import publish, scratch

MANY = 4


@pytest.fixture
def root() -> Iterator[Path]:
    with scratch("races") as folder:
        yield Path(folder) / "store"


def test_one_store_is_made_by_many(root: Path) -> None:
    assert len(set(at_once(lambda: Store.open(root).id, *[()] * MANY))) == 1
    assert verify(root).problems == ()


def publish_some(root: Path, name: str) -> list[tuple[str, str]]:
    store = Store.open(root)
    return [(what, publish(store, "a", what).ref) for n in range(6) for what in (f"{name}-{n}", f"common-{n}")]


def test_racing_publishers(root: Path) -> None:
    """Distinct releases get distinct versions without a gap; equal ones are published once, and all are told so."""
    answers = at_once(publish_some, *((root, str(n)) for n in range(MANY)))
    told = {pair for answer in answers for pair in answer}
    assert len({ref for _, ref in told}) == len(told) == 6 * MANY + 6
    store = Store.open(root, writable=False)
    releases = store.releases()
    assert [m.version for m in releases] == [m.sequence for m in releases] == list(range(len(told), 0, -1))
    assert {(str(m.tables["stages"][0]["step"]), m.ref) for m in releases} == told
    assert verify(root).problems == ()


def promote_some(root: Path, who: str) -> list[tuple[int, str]]:
    """The moves that this process won, each with the reason it gave."""
    store, won = Store.open(root), []
    for n in range(24):
        try:
            seen = aliases.current(root, "a", "production").number
        except AliasNotFound:
            seen = 0
        why = f"{who}-{n}"
        try:
            move = promote(store, f"a@{1 + n % 3}", "production", why=why, seen=seen)
        except AliasMoved:
            continue
        if move.moved:
            assert move.after.number == seen + 1
            won.append((move.after.number, why))
    return won


def test_racing_promoters(root: Path) -> None:
    """Of those who saw the same state one wins; the history is what the winners did, without a gap."""
    store = Store.open(root)
    for what in ("1", "2", "3"):
        publish(store, "a", what)
    answers = at_once(promote_some, *((root, str(n)) for n in range(MANY)))
    won = [move for answer in answers for move in answer]
    numbers = Counter(number for number, _ in won)
    assert set(numbers.values()) == {1}
    assert sorted(numbers) == list(range(1, len(won) + 1))
    history = aliases.history(root, "a", "production")
    assert [(entry.number, entry.why) for entry in history] == sorted(won)
    assert len(won) >= 24
    assert verify(root).problems == ()


def promote_once(root: Path, version: int) -> str:
    try:
        promote(Store.open(root), f"a@{version}", "production", seen=0)
    except AliasMoved:
        return "lost"
    return f"a@{version}"


def test_one_winner(root: Path) -> None:
    """All decided on the same state and all write."""
    store = Store.open(root)
    for what in range(MANY):
        publish(store, "a", str(what))
    answers = at_once(promote_once, *((root, 1 + n) for n in range(MANY)))
    assert Counter(answers)["lost"] == MANY - 1
    (winner,) = set(answers) - {"lost"}
    assert store.find("a:production").ref == winner
