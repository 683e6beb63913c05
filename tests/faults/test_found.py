"""What a reading of the store found: one test for each."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts import fs, locks
from artifacts.errors import ReleaseConflict, ReleaseNotFound, StoreBusy
from artifacts.keeping.promotion import promote
from artifacts.keeping.repair import repair
from artifacts.store import layout, ledger
from artifacts.store import store as store_module
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, digest, make_release, place, rewrite
from tests.faults.support import publish


def test_a_lease_that_ends_while_the_collector_looks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process ends without asking the collector: its lease may go at any moment."""
    ended = locks.Lease(store.root / "leases")
    look = locks.is_free

    def end_meanwhile(path: Path) -> bool:
        free = look(path)
        ended.close()
        return free

    monkeypatch.setattr(locks, "is_free", end_meanwhile)
    assert locks.living(store.root / "leases") == {}
    assert look(store.root / "leases" / ended.id)


def test_a_step_lock_that_goes_while_the_collector_looks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.root / "locks" / "step").touch()
    look = locks.is_free

    def go_meanwhile(path: Path) -> bool:
        free = look(path)
        path.unlink()
        return free

    monkeypatch.setattr(locks, "is_free", go_meanwhile)
    collect(store)
    assert not locks.remove_if_free(store.root / "locks" / "step")


def test_a_short_write_to_a_lease_loses_no_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is filling up takes a part: a name that is not there is an object that the collector removes."""
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: write(handle, data[:5]))
        store.lease.hold(["one name", "another name"])
    assert store.lease.path.read_text() == "another name\none name\n"


def test_a_failed_write_to_a_lease_can_be_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = os.write, iter(range(9))

    def full(handle: int, data: bytes) -> int:
        if next(calls):
            raise OSError(errno.ENOSPC, "full")
        return write(handle, data[:3])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="full"):
            store.lease.hold(["name"])
    store.lease.hold(["name"])
    assert store.lease.path.read_text() == "name\n"


def test_killed_savers_of_the_index_leave_nothing_for_ever(store: Store) -> None:
    publish(store, "a", "1")
    store.summaries()
    (store.root / "cache" / "index.json.77.abc").write_bytes(b"half")
    store.close()
    assert collect(store).leftovers == ("cache/index.json.77.abc",)
    assert [path.name for path in (store.root / "cache").iterdir()] == ["index.json"]


def test_what_cannot_be_listed_is_not_collected(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without read permission: its releases' objects are in use, though nobody can see by what."""
    manifest = publish(store, "a", "1")
    store.close()
    scan = os.scandir

    def refused(path: Any = ".") -> Any:
        if str(path) == str(store.root / "releases" / "a"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        patch.setattr(os, "listdir", lambda path=".": [entry.name for entry in refused(path)])
        with pytest.raises(PermissionError):
            collect(store)
    assert store.read(manifest, "image/a.bin").exists()


@pytest.mark.parametrize("where", ["releases/a", "ledger/0"])
def test_a_file_where_a_folder_belongs_is_an_error_not_a_loop(store: Store, where: str) -> None:
    """A publisher that takes it for a version that is taken would try the next one, for ever."""
    (store.root / where).write_bytes(b"")
    ref = add(store)
    built = []

    def build(version: int, _: int) -> Any:
        built.append(version)
        assert len(built) < 5
        return make_release(Store.open(store.root.parent / "other"), "a", digest("1"), add_other())[0]

    def add_other() -> Any:
        return add(Store.open(store.root.parent / "other"))

    assert ref == add_other()
    with pytest.raises(NotADirectoryError):
        store.publish("a", digest("1"), build)
    assert len(built) == 1


def test_an_object_that_was_replaced_meanwhile_is_not_moved_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two find the same damage; the slower one must not take the faster one's good object out of its place."""
    ref = add(store)
    publish_of_it = make_release(store, "a", digest("1"), ref)[0]
    rewrite(place(store, ref) / "a.bin", b"kontent")
    slow = Store.open(store.root)
    moved: list[Path] = []
    move, is_sound = fs.move_away, Store._is_sound

    def found_by_both(self: Store, *args: Any) -> bool:
        sound = is_sound(self, *args)
        if self is slow and not sound and not moved:
            moved.append(Path())
            add(store)
        return sound

    monkeypatch.setattr(Store, "_is_sound", found_by_both)
    monkeypatch.setattr(fs, "move_away", lambda path, to: (moved.append(path), move(path, to)))
    add(slow)
    assert len(moved) == 2  # the mark above, and the damaged one, once
    assert store.read(publish_of_it, "image/a.bin").read_bytes() == b"content"


def test_repair_does_not_move_away_what_somebody_else_repaired(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from artifacts.keeping import repair as repair_module

    manifest = make_release(store, "a", digest("1"), ref := add(store))[0]
    rewrite(place(store, ref) / "a.bin", b"kontent")
    look = repair_module.look_through

    def and_then_another_repairs(store: Store) -> Any:
        found = look(store)
        add(Store.open(store.root))
        return found

    monkeypatch.setattr(repair_module, "look_through", and_then_another_repairs)
    repair(Store.open(store.root))
    assert store.read(manifest, "image/a.bin").read_bytes() == b"content"


def test_a_file_too_many_is_moved_aside(store: Store) -> None:
    make_release(store, "a", digest("1"), ref := add(store))
    (place(store, ref) / "virus").write_bytes(b"x")
    done = repair(store)
    assert done.after.problems == ()
    assert done.restored == ()
    assert done.quarantined == (f"objects/{ref.digest[:2]}/{ref.digest}/virus",)


def test_a_retired_version_is_not_taken_by_another_release(store: Store, tmp_path: Path) -> None:
    for what in ("1", "2"):
        publish(store, "a", what)
    store.close()
    old = store.find("a@1")
    collect(store, keep=1)
    for what, identity in (("1", old.identity), ("x", digest("other"))):
        refs = [add(store, data, name) for data, name in ((b"a 1 " * 3, "a.bin"), (b"x", "b.bin"))]
        assert refs
        other = Store.open(tmp_path / f"from {what}")
        manifest = publish(other, "a", what)
        assert (manifest.version, manifest.identity == identity) == (1, what == "1")
        publish(store, "b", what)
        for ref in manifest.objects():
            shutil.copytree(place(other, ref), place(store, ref), dirs_exist_ok=True)
        if what == "1":
            assert store.insert(manifest)  # the same one came back
            assert store.find("a@1") == manifest
            layout.manifest_path(store.root, "a", 1).unlink()
        else:
            with pytest.raises(ReleaseConflict, match="retired"):
                store.insert(manifest)
            with pytest.raises(ReleaseNotFound, match="retired"):
                store.find("a@1")


def test_a_release_that_goes_while_it_is_looked_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alias moves on and its old release is retired between two steps of a reader: that is a typed answer."""
    manifest = publish(store, "a", "1")
    promote(store, "a@1", "production")
    load = store_module.index.load

    def gone_meanwhile(root: Path, path: Path) -> Any:
        found = load(root, path)
        path.unlink()
        return found

    monkeypatch.setattr(store_module.index, "load", gone_meanwhile)
    assert store.find("a:production") == manifest


def test_nothing_is_collected_while_a_file_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = publish(store, "a", "1")
    monkeypatch.setattr(store_module, "digest_file", lambda _: collect(Store.open(store.root), wait_s=0))
    with pytest.raises(StoreBusy):
        store.read(manifest, "image/a.bin")


def test_two_faults_do_not_silence_verify(store: Store) -> None:
    """A lost manifest, and a ledger entry that would say whether it was retired."""
    for what in ("1", "2"):
        publish(store, "a", what)
    layout.manifest_path(store.root, "a", 2).unlink()
    for spoil in (lambda path: rewrite(path, b"{}"), lambda path: path.unlink()):
        spoil(ledger.entry_path(store.root, 1))
        assert {problem.where for problem in verify(store.root).problems} == {"ledger/0/1.json", "releases/a/2.json"}


@pytest.mark.parametrize("name", ["objects", "ledger", "releases", "aliases", "signatures"])
def test_a_copy_without_a_folder(store: Store, name: str) -> None:
    """Tools that copy files leave empty folders out: they are no damage, and full ones are found missing."""
    shutil.rmtree(store.root / name)
    assert verify(store.root).problems == ()
    (store.root / name).mkdir()
    publish(store, "a", "1")
    promote(store, "a@1", "production")
    shutil.rmtree(store.root / name)
    assert bool(verify(store.root).problems) == (name != "signatures")


@pytest.mark.parametrize("where", ["signatures/a/notes.txt", "signatures/a/x/1.json"])
def test_what_does_not_belong_beside_signatures_does_not_stop_the_collector(store: Store, where: str) -> None:
    path = store.root / where
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    collect(store)
    assert path.exists()


def test_a_store_in_a_folder_that_cannot_be_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who makes a store needs the folder around it."""
    flush = fs.flush_folder

    def refused(path: Path) -> None:
        if path == store.root.parent:
            raise PermissionError(errno.EACCES, "Permission denied")
        flush(path)

    monkeypatch.setattr(fs, "flush_folder", refused)
    assert Store.open(store.root).id == store.id


def test_opening_while_another_makes_the_store_and_collects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector of the other takes our header's temporary for a leftover; the other's header counts."""
    link: Callable[[Path, Path], None] = fs.link
    once = threading.Event()

    def faster(source: Path, target: Path) -> None:
        if target.name == layout.HEADER and not once.is_set():
            once.set()
            collect(Store.open(tmp_path / "s"))
        link(source, target)

    monkeypatch.setattr(fs, "link", faster)
    assert Store.open(tmp_path / "s").id == Store.open(tmp_path / "s").id


def test_opening_while_another_makes_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kill_trials.py found after 1,340 trials: the header came between two looks, and the lock beside it looked
    like a stranger's file."""
    look = store_module._strangers
    (tmp_path / "s").mkdir()

    def meanwhile(root: Path) -> bool:
        monkeypatch.setattr(store_module, "_strangers", look)
        Store.open(root)
        return look(root)

    monkeypatch.setattr(store_module, "_strangers", meanwhile)
    assert Store.open(tmp_path / "s").id == Store.open(tmp_path / "s").id
