"""The store: content-addressed, verified on read, repaired on write, published once and last."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import stat
from pathlib import Path

import pytest

from artifacts import fs
from artifacts.errors import (
    BadName,
    DamagedManifest,
    DiskFull,
    NotAStore,
    ObjectDamaged,
    ObjectMissing,
    ReleaseNotFound,
    StoreError,
    StoreReadOnly,
)
from artifacts.manifest import Manifest
from artifacts.refs import digest_file
from artifacts.store import store as store_module
from artifacts.store.store import Store, activate, active_store
from tests.artifacts.support import add, digest, make_release, place, rewrite

# --- objects ---------------------------------------------------------------------------------------------------------


def test_an_object_is_its_bytes(store: Store) -> None:
    ref = add(store, b"hello", "sub/a.bin")
    path = place(store, ref) / "sub" / "a.bin"
    assert store.path(ref, "sub/a.bin") == path
    assert path.read_bytes() == b"hello"
    assert ref.files[0].sha256 == hashlib.sha256(b"hello").hexdigest()
    assert not path.stat().st_mode & 0o222
    assert list((store.root / "staging").iterdir()) == []


def test_equal_content_is_kept_once(store: Store) -> None:
    first = add(store)
    inode = (place(store, first) / "a.bin").stat().st_ino
    assert add(store) == first
    assert (place(store, first) / "a.bin").stat().st_ino == inode
    assert add(store, b"other") != first
    assert len([path for path in (store.root / "objects").rglob("*") if path.is_file()]) == 2


def test_an_object_without_files_is_refused(store: Store) -> None:
    with store.staging() as folder, pytest.raises(StoreError, match="without files"):
        store.add("thing", folder)


@pytest.mark.parametrize("damage", ["flip", "shorten", "lengthen", "same size, other bytes"])
def test_damage_is_found_on_read_even_after_a_good_read(store: Store, damage: str) -> None:
    ref = add(store, b"0123456789")
    store.path(ref)
    path = place(store, ref) / "a.bin"
    rewrite(
        path,
        {"flip": b"0123456788", "shorten": b"012345678", "lengthen": b"01234567890"}.get(damage, b"x" * 10),
    )
    for reader in (store, Store.open(store.root, writable=False)):
        with pytest.raises(ObjectDamaged, match=ref.digest[:12]):
            reader.path(ref)


def test_objects_checked_ahead_are_not_read_again_and_damaged_ones_are_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = [add(store, content) for content in (b"one", b"two", b"three")]
    rewrite(place(store, refs[1]) / "a.bin", b"twa")
    fresh = Store.open(store.root)
    fresh.check_ahead(refs)
    read: list[Path] = []
    monkeypatch.setattr(store_module, "digest_file", lambda path: read.append(path) or digest_file(path))
    fresh.check(refs[0])
    fresh.check(refs[2])
    assert read == []
    with pytest.raises(ObjectDamaged):
        fresh.check(refs[1])


@pytest.mark.parametrize("position", range(0, 64, 7))
def test_every_flipped_bit_is_found(store: Store, position: int) -> None:
    ref = add(store, b"01234567")
    data = bytearray(b"01234567")
    data[position // 8] ^= 1 << position % 8
    rewrite(place(store, ref) / "a.bin", bytes(data))
    with pytest.raises(ObjectDamaged):
        Store.open(store.root).path(ref)


def test_a_missing_file_is_found(store: Store, tmp_path: Path) -> None:
    ref = add(store)
    (place(store, ref) / "a.bin").unlink()
    with pytest.raises(ObjectMissing, match="not in this store"):
        store.path(ref)
    other = Store.open(tmp_path / "other")
    with pytest.raises(ObjectMissing):
        other.path(ref)


@pytest.mark.parametrize("damage", ["flipped", "deleted"])
def test_adding_again_repairs(store: Store, damage: str) -> None:
    ref = add(store, b"0123456789")
    path = place(store, ref) / "a.bin"
    if damage == "deleted":
        path.unlink()
    else:
        rewrite(path, b"0123456788")
    assert add(store, b"0123456789") == ref
    assert store.path(ref, "a.bin").read_bytes() == b"0123456789"


def test_active_store(store: Store, tmp_path: Path) -> None:
    assert active_store() is store
    with activate(Store.open(tmp_path / "inner")) as inner:
        assert active_store() is inner
    assert active_store() is store


# --- releases --------------------------------------------------------------------------------------------------------


def test_versions_count_up_per_model_and_the_newest_comes_first(store: Store) -> None:
    ref = add(store)
    made = [make_release(store, model, digest(str(n)), ref) for n, model in enumerate(["a", "b", "a", "a", "b"])]
    assert [manifest.ref for manifest, _ in made] == ["a@1", "b@1", "a@2", "a@3", "b@2"]
    assert all(new for _, new in made)
    assert [m.ref for m in Store.open(store.root).releases()] == ["b@2", "a@3", "a@2", "b@1", "a@1"]


def test_the_same_identity_is_the_same_release(store: Store) -> None:
    ref = add(store)
    first, _ = make_release(store, "a", digest("1"), ref)
    make_release(store, "a", digest("2"), ref)
    again, new = make_release(store, "a", digest("1"), ref)
    assert (again, new) == (first, False)
    assert len(store.releases()) == 2
    assert make_release(store, "b", digest("1"), ref)[0].ref == "b@1"


def test_find(store: Store) -> None:
    ref = add(store)
    first, _ = make_release(store, "a", digest("1"), ref)
    second, _ = make_release(store, "a", digest("2"), ref)
    assert store.find("a") == second
    assert store.find("a@1") == first
    assert store.find(first.identity[:8]) == first
    assert store.find(second.identity) == second
    for missing in ("b", "a@3", "0" * 8):
        with pytest.raises(ReleaseNotFound, match="a@2"):
            store.find(missing)
    with pytest.raises(BadName):
        store.find("../a")


def test_a_release_of_missing_objects_is_not_published(store: Store) -> None:
    ref = add(store)
    (place(store, ref) / "a.bin").unlink()
    with pytest.raises(ObjectMissing, match=r"image/a\.bin"):
        make_release(store, "a", digest("1"), ref)
    assert store.releases() == []
    assert list((store.root / "releases").rglob("*.json")) == []


def test_a_failing_build_publishes_nothing(store: Store) -> None:
    def build(_version: int, _sequence: int) -> Manifest:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        store.publish("a", digest("1"), build)
    assert store.releases() == []
    assert make_release(store, "a", digest("1"), add(store))[0].ref == "a@1"


def test_an_edited_manifest_is_refused(store: Store) -> None:
    make_release(store, "a", digest("1"), add(store))
    path = store.root / "releases" / "a" / "1.json"
    content = json.loads(path.read_bytes())
    rewrite(path, json.dumps(content | {"version": 2}).encode())
    with pytest.raises(DamagedManifest, match="edited") as caught:
        store.releases()
    assert caught.value.where == str(path)


def test_a_manifest_in_the_wrong_place_is_refused(store: Store) -> None:
    """A release is what its manifest says it is: a copy under another name or number is not another release."""
    make_release(store, "a", digest("1"), add(store))
    path = store.root / "releases" / "a" / "1.json"
    (store.root / "releases" / "b").mkdir()
    (store.root / "releases" / "b" / "7.json").write_bytes(path.read_bytes())
    with pytest.raises(DamagedManifest, match="place"):
        store.releases()


def _publish_some(root: Path, start: int) -> None:
    store = Store.open(root)
    for n in range(start, start + 8):
        make_release(store, "a", digest(str(n)), add(store, str(n).encode()))


def test_racing_publishers_get_distinct_versions(store: Store) -> None:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hold their locks for ever
    workers = [context.Process(target=_publish_some, args=(store.root, 100 * n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    releases = store.releases()
    assert sorted(m.version for m in releases) == list(range(1, 25))
    assert sorted(m.sequence for m in releases) == list(range(1, 25))


# --- opening ---------------------------------------------------------------------------------------------------------


def test_opening_twice_is_the_same_store(tmp_path: Path) -> None:
    first = Store.open(tmp_path / "s")
    assert Store.open(tmp_path / "s").id == first.id
    assert Store.open(tmp_path / "t").id != first.id


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotAStore):
        Store.open(tmp_path / "none", writable=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("header", [b"", b"[]", b"{}", b'{"format":2,"id":"x"}', b'{"format":1}', b"\xff"])
def test_a_header_that_is_not_ours_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "store.json").write_bytes(header)
    for writable in (True, False):
        with pytest.raises(NotAStore):
            Store.open(tmp_path / "s", writable=writable)


def test_a_folder_of_something_else_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(NotAStore):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cat.jpg"]


@pytest.mark.parametrize("below", ["", "store"])
def test_a_file_in_the_stores_place_is_told_as_one(below: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(NotAStore, match="a file is in its place"):
        Store.open(file / below)
    assert file.read_text() == "mine"


def test_a_read_only_store_can_be_read_and_not_written(store: Store) -> None:
    make_release(store, "a", digest("1"), add(store))
    store.root.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(StoreReadOnly, match="read-only"):
            Store.open(store.root)
        assert [m.ref for m in Store.open(store.root, writable=False).releases()] == ["a@1"]
    finally:
        store.root.chmod(0o755)


def test_a_full_disk_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fs, "write_exclusive", full)
    with pytest.raises(DiskFull, match="no room"):
        Store.open(tmp_path / "s")
