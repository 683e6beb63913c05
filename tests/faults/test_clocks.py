"""P9: clocks ten years off, back and forth, in the processes and on the files: nothing depends on them."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from artifacts.store import aliases, layout, tombstones
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add
from tests.faults.support import publish

ROOT = Path(__file__).parent.parent.parent
YEARS_S = 10 * 365.25 * 86400


def at(years: int, root: Path, *steps: str) -> list[str]:
    """What steps say in a process whose clock is so many years off; then all files get times from another year."""
    command = [sys.executable, "-m", "tests.faults.clock_child", str(root), str(years), *steps]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    age(root, -years)
    return done.stdout.splitlines()


def age(root: Path, years: int) -> None:
    when = time.time() + years / 10 * YEARS_S
    for path in root.rglob("*"):
        os.utime(path, (when, when))


def test_a_store_whose_processes_disagree_on_the_year(tmp_path: Path) -> None:
    root, this_year = tmp_path / "store", datetime.datetime.now(datetime.UTC).year
    assert at(0, root, "publish one")[0] == "a@1"
    refs = at(-10, root, "publish two", "publish one")
    assert refs == ["a@2", "a@1"]  # the same release is known in any year
    *refs, promoted = at(10, root, "publish three", "publish four", "promote a@4")
    assert refs == ["a@3", "a@4"]
    assert int(promoted[:4]) >= this_year + 9, "the clock was not moved"
    *_, promoted = at(-10, root, "publish five", "promote a@5")
    assert int(promoted[:4]) <= this_year - 9
    store = Store.open(root)
    assert [m.ref for m in store.releases()] == [f"a@{n}" for n in (5, 4, 3, 2, 1)]
    assert [summary["ref"] for summary in store.summaries()[0]] == [f"a@{n}" for n in (5, 4, 3, 2, 1)]
    assert store.find("a").ref == "a@5"
    assert [entry.version for entry in aliases.history(root, "a", "production")] == [4, 5]
    assert at(0, root, "rollback") == ["a@4"]
    assert at(10, root, "collect 1") == ["a@1,a@2,a@3"]  # the oldest by version, whatever the years say
    assert store.find("a:production").ref == "a@4"
    assert int(tombstones.read(layout.tombstone_path(root, "a", 1)).retired[:4]) >= this_year + 9
    assert at(-10, root, "publish three") == ["a@6"]
    assert verify(root).problems == ()


@pytest.mark.parametrize("years", [-10, 10])
def test_a_lease_does_not_grow_old(store: Store, years: int) -> None:
    """What a living process holds stays, even if its lease and the object look ten years old or not yet made."""
    publish(store, "a", "1")
    ref = add(store, b"lone")
    age(store.root, years)
    other = Store.open(store.root)
    assert collect(other).objects == ()
    assert store.path(ref, "a.bin").read_bytes() == b"lone"
    store.close()
    assert collect(other).objects == (ref.digest,)


def test_times_of_files_do_not_make_them_other_files(store: Store) -> None:
    manifest = publish(store, "a", "1")
    before = store.summaries()
    age(store.root, 10)
    assert store.summaries() == before
    assert store.find("a") == manifest
    assert publish(store, "a", "1") == manifest
    assert publish(store, "a", "2").version == 2
