"""The collector removes what nothing needs, and nothing else."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts import locks
from artifacts.errors import ConfigError, DamagedManifest, ReleaseNotFound, StoreBusy
from artifacts.keeping.promotion import promote, rollback
from artifacts.store import layout
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from artifacts.store.tombstones import read
from artifacts.store.unfinished import Partial
from tests.artifacts.support import add, digest, make_release, place, rewrite

ROOT = Path(__file__).parents[3]


def released(store: Store, count: int, model: str = "a") -> list[str]:
    """`count` releases with an object each; the objects' digests."""
    refs = [add(store, f"{model}{n}".encode()) for n in range(1, count + 1)]
    for ref in refs:
        make_release(store, model, digest(f"{model}{ref.digest}"), ref)
    return [ref.digest for ref in refs]


def objects(store: Store) -> set[str]:
    return {path.name for path in (store.root / "objects").glob("*/*")}


def test_what_no_release_uses_is_removed_once_nobody_holds_it(store: Store) -> None:
    kept = released(store, 2)
    loose = add(store, b"loose")
    assert collect(store).objects == ()  # this process made it and lives
    store.close()
    found = collect(store)
    assert found.objects == (loose.digest,)
    assert found.bytes == 5
    assert objects(store) == set(kept)
    assert collect(store).objects == ()


def test_a_dry_run_says_what_would_go_and_removes_nothing(store: Store) -> None:
    released(store, 3)
    add(store, b"loose")
    store.close()
    before = sorted(store.root.rglob("*"))
    planned = collect(store, keep=1, dry_run=True)
    assert sorted(store.root.rglob("*")) == before
    assert planned.releases == ("a@1", "a@2")
    assert len(planned.objects) == 3
    assert collect(store, keep=1) == planned


def test_keep_retires_the_oldest_of_each_model_and_never_their_versions(store: Store) -> None:
    released(store, 4)
    (lone,) = released(store, 1, "b")
    store.close()
    found = collect(store, keep=2)
    assert found.releases == ("a@1", "a@2")
    assert [m.ref for m in store.releases()] == ["b@1", "a@4", "a@3"]
    assert lone in objects(store)
    assert len(objects(store)) == 3
    with pytest.raises(ReleaseNotFound, match="was retired"):
        store.find("a@1")
    tombstone = read(layout.tombstone_path(store.root, "a", 1))
    assert (tombstone.model, tombstone.version) == ("a", 1)
    collect(store, keep=1)
    for path in layout.manifests(store.root, "a"):  # even with none left, no version comes back
        path.unlink()
    assert make_release(store, "a", digest("new"), add(store))[0].ref == "a@4"


def test_aliases_hold_their_release_and_the_one_they_would_roll_back_to(store: Store) -> None:
    released(store, 5)
    for version in (1, 2, 3):
        promote(store, f"a@{version}", "production")
    promote(store, "a@4", "staging")
    store.close()
    assert collect(store, keep=1).releases == ("a@1",)
    rollback(store, "a", "production")
    assert store.find("a:production").version == 2


def test_equal_releases_share_an_object_until_the_last_is_gone(store: Store) -> None:
    ref = add(store)
    for n in range(2):
        make_release(store, "a", digest(str(n)), ref)
    store.close()
    assert collect(store, keep=1).objects == ()
    assert store.path(ref, "a.bin").read_bytes() == b"content"


def test_keep_below_one_is_refused(store: Store) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        collect(store, keep=0)


def test_a_damaged_manifest_stops_the_collector(store: Store) -> None:
    """Nobody knows what it refers to, so nothing is removed."""
    released(store, 1)
    loose = add(store, b"loose")
    store.close()
    rewrite(layout.manifest_path(store.root, "a", 1), b"{}")
    with pytest.raises(DamagedManifest):
        collect(store)
    assert loose.digest in objects(store)


def test_a_reader_keeps_the_collector_waiting(store: Store) -> None:
    released(store, 2)
    with store.reading(), pytest.raises(StoreBusy, match=r"in use for all of 0\.1 s"):
        collect(store, keep=1, wait_s=0.1)
    assert len(store.releases()) == 2


LIVING = """
import sys
from pathlib import Path
from artifacts.store.store import Store
store = Store.open(sys.argv[1])
with store.staging() as folder:
    (folder / "a.bin").write_bytes(b"of another process")
    ref = store.add("thing", folder)
with store.staging() as folder:
    (folder / "half").write_bytes(b"half done")
    print(ref.digest, folder, flush=True)
    sys.stdin.read()
"""


def test_what_a_living_process_holds_stays_and_what_a_killed_one_held_goes(store: Store) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LIVING, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    made, _, folder = process.stdout.readline().strip().partition(" ")
    found = collect(store)
    assert (found.objects, found.leftovers) == ((), ())
    assert (Path(folder) / "half").read_bytes() == b"half done"
    process.kill()
    process.wait()
    found = collect(store)
    assert found.objects == (made,)
    assert len(found.leftovers) == 2  # its lease and its staging folder
    assert [list((store.root / name).iterdir()) for name in ("leases", "staging")] == [[], []]


def test_a_checked_object_is_held(store: Store) -> None:
    """A cached step's result is looked at, not made: it must not go while the run that looked at it lives."""
    ref = add(store)
    store.close()
    runner = Store.open(store.root)
    runner.check(ref)
    assert collect(store).objects == ()
    runner.close()
    assert collect(store).objects == (ref.digest,)


def test_locks_that_nobody_holds_are_removed(store: Store) -> None:
    held, free = store.root / "locks" / "held", store.root / "locks" / "free"
    for path in (held, free):
        path.touch()
    handle = os.open(held, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert collect(store).leftovers == ("locks/free",)
    assert (held.exists(), free.exists()) == (True, False)
    os.close(handle)
    assert locks.is_free(held)


def test_quarantine_is_emptied(store: Store) -> None:
    ref = add(store, b"0123456789")
    rewrite(place(store, ref) / "a.bin", b"9876543210")
    add(store, b"0123456789")
    assert len(list((store.root / "quarantine").iterdir())) == 1
    assert len(collect(store).leftovers) == 1
    assert list((store.root / "quarantine").iterdir()) == []


def test_what_a_killed_step_had_done_goes_and_what_a_living_one_has_done_stays(store: Store) -> None:
    work = Partial(store, digest("work"))
    assert list(work.chunks()) == []
    work.add(b"first")
    assert collect(store).leftovers == ()
    store.close()  # as its process's death does
    assert collect(store).leftovers == (f"cache/partial/{digest('work')}",)
    assert not (store.root / "cache" / "partial" / digest("work")).exists()
