"""What the store must not do, done on purpose: each mutant is caught by the check that is named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts import fs, locks
from artifacts.store import garbage
from artifacts.store.store import Store
from tests.faults.checks import (
    check_one_promoter_wins,
    check_publishers_do_not_overwrite,
    check_the_collector_leaves_what_is_held,
)
from tests.faults.power_checks import check_pair, check_whole_life
from tests.faults.support import scratch


@pytest.fixture
def root() -> Iterator[Path]:
    with scratch("mutant") as folder:
        yield Path(folder) / "store"


def nothing(*_: object) -> None:
    """What a mutant does instead."""


@pytest.mark.parametrize(
    "mutants",
    [("flush_file", "flush_folder"), ("flush_file",), ("flush_folder",)],
    ids=["no fsync", "no fsync of files", "no fsync of folders"],
)
def test_no_fsync(mutants: tuple[str, ...]) -> None:
    with pytest.raises(AssertionError, match="power lost after operation"):
        check_whole_life(**dict.fromkeys(mutants, nothing))


def in_place(path: Path, data: bytes, _: Path) -> None:
    """Durable in the end, but there before it is whole."""
    fs.write_file(path, data)
    fs.flush_file(path)
    fs.flush_folder(path.parent)


def test_write_in_place() -> None:
    with pytest.raises(AssertionError, match=r"power lost after operation \d+, write_file"):
        check_whole_life(subsets=4, write_exclusive=in_place)


def test_alias_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alias is durable before the release that it points to."""
    monkeypatch.setattr(Store, "keep_record", nothing)
    with pytest.raises(AssertionError, match="power lost"):
        check_pair("a release whose publisher was killed is promoted")


def test_duplicates_are_taken_for_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: what another process put there and did not flush."""
    monkeypatch.setattr(fs, "keep", nothing)
    with pytest.raises(AssertionError, match="power lost"):
        check_pair("the same release (P6)")


def test_retired_releases_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "_settle", nothing)
    with pytest.raises(AssertionError, match="power lost"):
        check_pair("retiring")


@pytest.mark.parametrize("check", [check_one_promoter_wins, check_publishers_do_not_overwrite])
def test_replace_for_link(root: Path, monkeypatch: pytest.MonkeyPatch, check: object) -> None:
    monkeypatch.setattr(fs, "link", os.replace)
    with pytest.raises(AssertionError):
        check(root)  # type: ignore[operator]


def test_no_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks.fcntl, "flock", nothing)
    with pytest.raises(AssertionError, match="the collector did not wait for a reader"):
        check_the_collector_leaves_what_is_held(root)


def test_leases_without_a_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "is_free", lambda _: True)
    with pytest.raises(AssertionError, match="the collector took what a publisher holds"):
        check_the_collector_leaves_what_is_held(root)


def test_the_store_itself_passes(root: Path) -> None:
    """The power checks' own tests are in test_power_loss.py."""
    for number, check in enumerate(
        (check_one_promoter_wins, check_publishers_do_not_overwrite, check_the_collector_leaves_what_is_held)
    ):
        check(root.with_name(f"{root.name}-{number}"))
