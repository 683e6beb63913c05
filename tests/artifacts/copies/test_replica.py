"""Push and pull: to a folder, to memory, and over HTTP to moto, an emulator of S3 that runs beside the tests."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from artifacts import fs
from artifacts.copies import remote, replica, transfer
from artifacts.copies.remote import Remote, redact
from artifacts.copies.replica import Copied, pull, push
from artifacts.errors import (
    AmbiguousReference,
    BadName,
    ConfigError,
    DamagedSignature,
    DiskFull,
    ObjectDamaged,
    ObjectMissing,
    ReleaseConflict,
    ReleaseNotFound,
    ReplicaError,
    StoreBusy,
)
from artifacts.keeping.repair import repair
from artifacts.manifest import Manifest
from artifacts.records import dump
from artifacts.refs import ArtifactRef, FileEntry
from artifacts.store import layout
from artifacts.store.signatures import SignatureRecord, signatures
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.places import Place, in_bucket, in_folder
from tests.artifacts.support import add, digest, make_release, place, rewrite
from tests.wording import refusal

ROOT = Path(__file__).parents[3]

# --- places to copy to ---------------------------------------------------------------------------------------


def in_memory(name: str) -> Place:
    """A folder of fsspec's file system in memory."""
    from fsspec.implementations.memory import MemoryFileSystem

    store, root = MemoryFileSystem.store, f"/{name}/"

    def files() -> dict[str, bytes]:
        return {path.removeprefix(root): file.getvalue() for path, file in store.items() if path.startswith(root)}

    def write(path: str, data: bytes) -> None:
        MemoryFileSystem().pipe_file(root + path, data)

    return Place(f"memory://{name}", files, write, lambda path: store.pop(root + path))


@pytest.fixture
def bucket(s3: Any, tmp_path: Path) -> Place:
    """A fresh bucket."""
    return in_bucket(s3, f"b{digest(str(tmp_path))[:20]}")


@pytest.fixture
def memory(tmp_path: Path) -> Place:
    """A fresh folder in memory."""
    return in_memory(digest(str(tmp_path))[:20])


@pytest.fixture(params=["folder", "memory", "s3"])
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place of each kind."""
    if request.param == "folder":
        return in_folder(tmp_path / "copy")
    return request.getfixturevalue("memory" if request.param == "memory" else "bucket")


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    """An empty folder."""
    return in_folder(tmp_path / "copy")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A second, empty store."""
    return Store.open(tmp_path / "other")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that do not wait."""
    monkeypatch.setattr(remote, "_LONGEST_WAIT_S", 0.0)


def add_files(store: Store, **files: bytes) -> ArtifactRef:
    """An object of several files."""
    with store.staging() as staging:
        for name, data in files.items():
            (staging / name).write_bytes(data)
        return store.add("many", staging)


@pytest.fixture
def release(store: Store) -> Manifest:
    """A release of three objects with six files."""
    several = add_files(store, a=b"1", b=b"22", c=b"", d=b"4444")
    hello, big = add(store, b"hello"), add(store, b"x" * 70_000, "big.bin")
    return make_release(store, "m", digest("one"), several, hello, big)[0]


def sign(store: Store, manifest: Manifest, number: int = 1, bundle: str = "{}") -> SignatureRecord:
    """A signature as the store keeps it; nobody looks into its bundle here."""
    record = SignatureRecord(
        model=manifest.model,
        version=manifest.version,
        number=number,
        bundle=bundle,
        who="me",
        created="2026-01-01T00:00:00Z",
    )
    path = layout.signature_folder(store.root, manifest.model, manifest.version) / f"{number}.json"
    store.write_record(path, dump(record))
    return record


def in_store(store: Store) -> dict[str, bytes]:
    """Every file of a store that belongs into a copy."""
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes()
        for top in ("objects", "releases", "signatures")
        for path in (store.root / top).rglob("*")
        if path.is_file()
    }


def object_path(ref: ArtifactRef | str, member: str) -> str:
    """Where a file of an object is in a copy."""
    name = ref if isinstance(ref, str) else ref.digest
    return f"objects/{name[:2]}/{name}/{member}"


# --- both ways, everywhere -------------------------------------------------------------------------------------------


def test_a_copy_has_the_stores_files_and_layout(store: Store, release: Manifest, copy: Place) -> None:
    sign(store, release)
    told: list[int] = []
    size = sum(file.size for file in release.files)
    assert push(store, release, copy.url, told.append) == Copied(6, size, 0, 0, release=True, signatures=1)
    assert copy.files() == in_store(store)
    assert sorted(told) == sorted(file.size for file in release.files)


def test_a_release_arrives_as_it_was(store: Store, other: Store, release: Manifest, copy: Place) -> None:
    sign(store, release)
    push(store, release, copy.url)
    told: list[int] = []
    size = sum(file.size for file in release.files)
    assert pull(other, "m", copy.url, told.append) == (release, Copied(6, size, 0, 0, release=True, signatures=1))
    assert in_store(other) == in_store(store)
    assert sum(told) == size
    assert verify(other.root).problems == ()
    assert list((other.root / "staging").iterdir()) == []


def test_what_is_on_both_sides_is_not_copied(
    store: Store, other: Store, release: Manifest, copy: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(store, release)
    push(store, release, copy.url)
    pull(other, "m@1", copy.url)
    for name in ("upload", "create", "remove", "chunks"):
        monkeypatch.delattr(Remote, name)
    size = sum(file.size for file in release.files)
    nothing = Copied(0, 0, 6, size, release=False, signatures=0)
    assert push(store, release, copy.url) == nothing
    assert pull(other, "m@1", copy.url) == (release, nothing)
    assert nothing.nothing


def test_only_what_is_missing_is_copied(store: Store, other: Store, release: Manifest, copy: Place) -> None:
    push(store, release, copy.url)
    pull(other, "m", copy.url)
    refs = release.objects()
    second, _ = make_release(store, "m", digest("two"), refs[0], refs[1], add(store, b"new"))
    told: list[int] = []
    wanted = Copied(1, 3, 5, 7 + 5, release=True, signatures=0)
    assert push(store, second, copy.url, told.append) == wanted
    assert sum(told) == 3 + 7 + 5
    assert copy.files() == in_store(store)
    assert pull(other, "m", copy.url) == (second, wanted)
    assert in_store(other) == in_store(store)


def test_names_with_what_urls_give_a_meaning(store: Store, other: Store, copy: Place) -> None:
    manifest, _ = make_release(store, "a.b_c--d", digest("one"), add(store, b"plus", "x/y+z@1/._-.bin"))
    push(store, manifest, copy.url)
    assert copy.files() == in_store(store)
    assert pull(other, "a.b_c--d@1", copy.url)[0] == manifest


@pytest.mark.parametrize("reference", ["m@1", "m@3", "m", "identity"])
def test_references(store: Store, other: Store, memory: Place, reference: str) -> None:
    made = [make_release(store, "m", digest(str(n)), add(store, f"{n}".encode()))[0] for n in range(3)]
    for manifest in made:
        push(store, manifest, memory.url)
    wanted = made[0 if reference == "m@1" else 2]
    given = wanted.identity[:9] if reference == "identity" else reference
    assert pull(other, given, memory.url)[0] == wanted
    assert other.releases() == [wanted]


def test_the_newest_is_the_highest_number(store: Store, other: Store, memory: Place) -> None:
    ref = add(store)
    for n in range(11):
        push(store, make_release(store, "m", digest(str(n)), ref)[0], memory.url)
    assert pull(other, "m", memory.url)[0].ref == "m@11"


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("m:production", ConfigError, "aliases belong to a store"),
        ("m@2", ReleaseNotFound, "one of: 0123456789@1, m@1, n@1"),
        ("unknown", ReleaseNotFound, "one of: 0123456789@1, m@1, n@1"),
        ("0" * 8, ReleaseNotFound, "no release '00000000'"),
        ("ab" * 8, AmbiguousReference, "2 releases .*\n.*\n.*one of: m@1, n@1"),
        ("../m", BadName, "not a model name"),
    ],
)
def test_references_that_name_nothing(
    store: Store, other: Store, memory: Place, reference: str, error: type[Exception], message: str
) -> None:
    for model, identity in (("m", "ab" * 32), ("n", "ab" * 31 + "cd"), ("0123456789", "ef" * 32)):
        manifest = make_release(store, model, identity, add(store))[0]
        named = {"identity": identity if model != "0123456789" else manifest.identity}
        push(store, manifest.model_copy(update=named), memory.url)
    with pytest.raises(error, match=message):
        pull(other, reference, memory.url)
    assert other.releases() == []
    assert pull(other, "0123456789", memory.url)[0].ref == "0123456789@1"  # a model's name comes first


def test_a_copy_that_is_not_there(other: Store, copy: Place) -> None:
    with pytest.raises(ReleaseNotFound, match="one of: none"):
        pull(other, "m", copy.url)
    with pytest.raises(ReleaseNotFound, match="one of: none"):
        pull(other, "ab" * 8, copy.url)


# --- interruptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", range(7))
def test_an_interrupted_push_goes_on_where_it_was(
    store: Store, release: Manifest, memory: Place, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    monkeypatch.setattr(replica, "_WORKERS", 1)
    original, calls = Remote.upload, []

    def upload(self: Remote, *arguments: Any) -> None:
        calls.append(arguments[0])
        if len(calls) > done:
            raise KeyboardInterrupt
        original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Remote, "upload", upload)
        if done < 6:
            with pytest.raises(KeyboardInterrupt):
                push(store, release, memory.url)
        else:
            patched.setattr(Remote, "create", upload)
            with pytest.raises(KeyboardInterrupt):
                push(store, release, memory.url)
    assert len(memory.files()) == done
    assert not any(path.startswith("releases") for path in memory.files())
    copied = push(store, release, memory.url)
    assert (copied.files, copied.skipped_files, copied.release) == (6 - done, done, True)
    assert memory.files() == in_store(store)


@pytest.mark.parametrize("when", ["before a file", "within a file", "before the manifest"])
def test_a_killed_push_goes_on_where_it_was(store: Store, release: Manifest, folder: Place, when: str) -> None:
    # kill -9 in a process of its own, at a moment that is the same each time
    code = {
        "before a file": "Remote.upload = upload; replica.push(store, manifest, url)",
        "within a file": "transfer.verified_chunks = chunks; replica.push(store, manifest, url)",
        "before the manifest": "Remote.create = lambda *_: os.kill(os.getpid(), 9); replica.push(store, manifest, url)",
    }[when]
    script = f"""
import os, sys
from artifacts.copies import replica
from artifacts.copies import transfer
from artifacts.copies.remote import Remote
from artifacts.store.store import Store
store, url = Store.open(sys.argv[1]), sys.argv[2]
manifest = store.find("m")
replica._WORKERS = 1
original_upload, uploads = Remote.upload, []
def upload(*arguments):
    uploads.append(arguments)
    if len(uploads) > 1:
        os.kill(os.getpid(), 9)
    original_upload(*arguments)
original = transfer.verified_chunks
def chunks(store, manifest, ref, entry):
    for chunk in original(store, manifest, ref, entry):
        if entry.size > 4:
            yield chunk[:2]
            os.kill(os.getpid(), 9)
        yield chunk
{code}
"""
    done = subprocess.run([sys.executable, "-c", script, store.root, folder.url], cwd=ROOT, check=False)
    assert done.returncode == -9
    before = {path: data for path, data in folder.files().items() if not path.startswith("staging/")}
    assert before.items() <= in_store(store).items()
    assert not any(path.startswith("releases") for path in before)
    assert len(before) == {"before a file": 1, "within a file": 4, "before the manifest": 6}[when]
    copied = push(store, release, folder.url)
    assert (copied.files, copied.skipped_files) == (6 - len(before), len(before))
    assert {p: d for p, d in folder.files().items() if not p.startswith("staging/")} == in_store(store)


@pytest.mark.parametrize("done", range(3))
def test_an_interrupted_pull_goes_on_where_it_was(
    store: Store, other: Store, release: Manifest, memory: Place, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    push(store, release, memory.url)
    monkeypatch.setattr(replica, "_WORKERS", 1)
    original, calls = Store.add, []

    def interrupted(self: Store, *arguments: Any) -> ArtifactRef:
        calls.append(arguments)
        if len(calls) > done:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pull(other, "m", memory.url)
    assert other.releases() == []
    assert list((other.root / "staging").iterdir()) == []
    _, copied = pull(other, "m", memory.url)
    assert copied.skipped_files == sum(len(ref.files) for ref in release.objects()[:done])
    assert copied.files + copied.skipped_files == 6
    assert in_store(other) == in_store(store)


def test_an_interrupted_file_is_not_seen(
    store: Store, release: Manifest, copy: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = transfer.verified_chunks

    def chunks(*arguments: Any) -> Iterator[bytes]:
        for chunk in original(*arguments):
            yield chunk[:1]
            raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "verified_chunks", chunks)
    with pytest.raises(KeyboardInterrupt):
        push(store, release, copy.url)
    assert set(copy.files().values()) <= {b""}  # the empty file has nothing to interrupt


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flip", "gone"])
def test_a_damaged_object_is_not_pushed(store: Store, release: Manifest, copy: Place, damage: str) -> None:
    path = place(store, release.objects()[2]) / "big.bin"
    path.unlink() if damage == "gone" else rewrite(path, b"x" * 69_999 + b"y")
    with pytest.raises(ObjectMissing if damage == "gone" else ObjectDamaged, match=r"big\.bin"):
        push(store, release, copy.url)
    assert not any("big.bin" in name or name.startswith(("releases", "staging")) for name in copy.files())


def test_a_damaged_signature_is_not_pushed(store: Store, release: Manifest, memory: Place) -> None:
    sign(store, release)
    rewrite(layout.signature_folder(store.root, "m", 1) / "1.json", b"{}")
    with pytest.raises(DamagedSignature):
        push(store, release, memory.url)
    assert memory.files() == {}


def test_a_file_of_the_wrong_size_is_pushed_again(store: Store, release: Manifest, copy: Place) -> None:
    push(store, release, copy.url)
    for damage in (b"", b"x" * 69_999, b"x" * 70_001):
        copy.write(object_path(release.objects()[2], "big.bin"), damage)
        assert push(store, release, copy.url) == Copied(1, 70_000, 5, 12, release=False, signatures=0)
        assert copy.files() == in_store(store)


def test_a_damaged_manifest_is_pushed_again(store: Store, release: Manifest, copy: Place) -> None:
    push(store, release, copy.url)
    for damage in (b"", b'{"format":1}', b"\xff" * 40):
        copy.write("releases/m/1.json", damage)
        push(store, release, copy.url)
        assert copy.files() == in_store(store)


def test_what_was_written_is_read_back(
    store: Store, release: Manifest, copy: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Remote.upload

    def upload(self: Remote, path: str, size: int, chunks: Callable[[], Iterable[bytes]]) -> None:
        wrong = path.endswith("big.bin")
        original(self, path, size, lambda: [b"y" * size] if wrong else chunks())

    monkeypatch.setattr(Remote, "upload", upload)
    with refusal(ReplicaError) as caught:
        push(store, release, copy.url)
    assert caught.value.where == f"{copy.url}/{object_path(release.objects()[2], 'big.bin')}"
    assert not any("big.bin" in name or name.startswith("releases") for name in copy.files())
    monkeypatch.undo()


def test_no_manifest_without_every_file(
    store: Store, release: Manifest, memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = replica._send

    def send(*arguments: Any) -> Any:
        entry = original(*arguments)
        if entry.path == "big.bin":  # somebody clears up just now
            memory.remove(object_path(release.objects()[0], "a"))
        return entry

    monkeypatch.setattr(replica, "_WORKERS", 1)
    monkeypatch.setattr(replica, "_send", send)
    with pytest.raises(ReplicaError, match="where a should be"):
        push(store, release, memory.url)
    assert not any(name.startswith("releases") for name in memory.files())


DAMAGE: dict[str, tuple[str, bytes | None]] = {
    "other bytes": ("big.bin", b"y" * 70_000),
    "too short": ("big.bin", b"x" * 69_999),
    "too long": ("big.bin", b"x" * 70_001),
    "empty": ("big.bin", b""),
    "gone": ("big.bin", None),
    "a damaged manifest": ("releases/m/1.json", b'{"format":1}'),
    "an empty manifest": ("releases/m/1.json", b""),
    "a damaged signature": ("signatures/m/1/1.json", b"{}"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_copy_is_not_pulled(store: Store, other: Store, release: Manifest, memory: Place, name: str) -> None:
    sign(store, release)
    push(store, release, memory.url)
    where, data = DAMAGE[name]
    path = object_path(release.objects()[2], where) if where == "big.bin" else where
    memory.remove(path) if data is None else memory.write(path, data)
    with pytest.raises(ReplicaError, match="the copy is damaged") as caught:
        pull(other, "m@1", memory.url)
    assert caught.value.where == f"{memory.url}/{path}"
    assert other.releases() == []
    assert list((other.root / "staging").iterdir()) == []
    assert verify(other.root).problems == ()


def test_an_object_that_is_not_what_was_fetched_is_not_pulled(
    store: Store, other: Store, release: Manifest, memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(store, release, memory.url)
    original = replica._download

    def download(remote: Remote, path: str, entry: FileEntry, folder: Path) -> str:
        found = original(remote, path, entry, folder)
        (folder / entry.path).write_bytes(b"y" * entry.size)  # the disk here is what is wrong
        return found

    monkeypatch.setattr(replica, "_download", download)
    with refusal(ReplicaError):
        pull(other, "m", memory.url)
    assert other.releases() == []


def test_a_manifest_that_is_not_in_its_place_is_not_pulled(
    store: Store, other: Store, release: Manifest, memory: Place
) -> None:
    push(store, release, memory.url)
    memory.write("releases/m/2.json", release.to_bytes())
    memory.write("releases/n/1.json", release.to_bytes())
    for reference in ("m", "n"):
        with pytest.raises(ReplicaError, match="not in its place"):
            pull(other, reference, memory.url)
    assert other.releases() == []


def test_a_foreign_signature_is_not_pulled(store: Store, other: Store, release: Manifest, memory: Place) -> None:
    second, _ = make_release(store, "m", digest("two"), add(store))
    push(store, release, memory.url)
    memory.write("signatures/m/1/1.json", dump(sign(store, second)))
    with refusal(ReplicaError):
        pull(other, "m@1", memory.url)
    assert other.releases() == []


def test_a_manifest_that_is_too_big_is_not_read(
    store: Store, other: Store, release: Manifest, memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(store, release, memory.url)
    monkeypatch.setattr(remote, "_RECORD_LIMIT", 100)
    with refusal(ReplicaError):
        pull(other, "m", memory.url)


def test_pulling_restores_what_repair_set_aside(store: Store, release: Manifest, memory: Place) -> None:
    push(store, release, memory.url)
    sound = in_store(store)
    rewrite(place(store, release.objects()[2]) / "big.bin", b"wrong")
    repair(store)
    assert verify(store.root).problems != ()
    _, copied = pull(store, "m", memory.url)
    assert (copied.files, copied.bytes, copied.release) == (1, 70_000, False)
    assert verify(store.root).problems == ()
    assert in_store(store) == sound


@pytest.mark.parametrize("where", ["object", "manifest", "signature"])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_pulling_restores_what_is_damaged(
    store: Store, release: Manifest, memory: Place, where: str, damage: str
) -> None:
    sign(store, release)
    push(store, release, memory.url)
    sound = in_store(store)
    path = {
        "object": place(store, release.objects()[2]) / "big.bin",
        "manifest": layout.manifest_path(store.root, "m", 1),
        "signature": layout.signature_folder(store.root, "m", 1) / "1.json",
    }[where]
    path.unlink() if damage == "gone" else rewrite(path, b"wrong")
    assert verify(store.root).problems != ()
    pull(store, "m", memory.url)
    assert verify(store.root).problems == ()
    assert in_store(store) == sound


# --- several pushers -------------------------------------------------------------------------------------------------


def test_another_release_of_the_same_name_stays(store: Store, other: Store, release: Manifest, copy: Place) -> None:
    mine, _ = make_release(other, "m", digest("two"), add(other, b"mine"))
    push(store, release, copy.url)
    for attempt in (lambda: push(other, mine, copy.url), lambda: pull(other, "m", copy.url)):
        with pytest.raises(ReleaseConflict, match="m@1"):
            attempt()
    assert copy.files() == in_store(store)
    assert other.releases() == [mine]
    assert verify(other.root).objects == 1


def race(*attempts: Callable[[], object]) -> list[object]:
    """What each attempt returned or raised when all were made at once."""

    def outcome(attempt: Callable[[], object]) -> object:
        try:
            return attempt()
        except ReleaseConflict as error:
            return error

    with ThreadPoolExecutor(len(attempts)) as pool:
        return list(pool.map(outcome, attempts))


def meet(monkeypatch: pytest.MonkeyPatch, parties: int) -> None:
    """Let pushers wait for each other before they write their manifests."""
    barrier, original = threading.Barrier(parties, timeout=60), replica._commit

    def commit(*arguments: Any, **options: Any) -> None:
        barrier.wait()
        original(*arguments, **options)

    monkeypatch.setattr(replica, "_commit", commit)


def test_equal_pushers_both_succeed(
    store: Store, release: Manifest, copy: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet(monkeypatch, 3)
    found = race(*[lambda: push(store, release, copy.url)] * 3)
    assert all(isinstance(copied, Copied) for copied in found)
    assert copy.files() == in_store(store)


@pytest.mark.parametrize("kind", ["folder", "bucket"])  # what is in memory has no exclusive writes
def test_of_different_pushers_one_wins(
    store: Store,
    other: Store,
    release: Manifest,
    kind: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy: Place = request.getfixturevalue(kind)
    mine, _ = make_release(other, "m", digest("two"), add(other, b"mine"))
    sign(store, release)
    sign(other, mine, bundle="mine")
    meet(monkeypatch, 2)
    found = race(lambda: push(store, release, copy.url), lambda: push(other, mine, copy.url))
    assert sorted(isinstance(outcome, Copied) for outcome in found) == [False, True]
    winner = store if isinstance(found[0], Copied) else other
    here = {path: data for path, data in copy.files().items() if not path.startswith("objects")}
    assert here.items() <= in_store(winner).items()
    assert len(here) == 2


def test_signatures_of_both_sides_are_kept(store: Store, other: Store, release: Manifest, copy: Place) -> None:
    push(store, release, copy.url)
    pull(other, "m", copy.url)
    sign(store, release, bundle="mine")
    sign(other, release, bundle="theirs")
    assert push(store, release, copy.url).signatures == 1
    assert push(other, release, copy.url).signatures == 1
    assert push(other, release, copy.url).nothing
    assert pull(store, "m", copy.url)[1].signatures == 1
    assert pull(other, "m", copy.url)[1].signatures == 1
    assert [record.bundle for record in signatures(store.root, "m", 1)] == ["mine", "theirs"]
    assert [record.bundle for record in signatures(other.root, "m", 1)] == ["theirs", "mine"]
    assert sorted(path for path in copy.files() if path.startswith("signatures")) == [
        "signatures/m/1/1.json",
        "signatures/m/1/2.json",
    ]


def test_the_eleventh_signature_has_number_11(store: Store, other: Store, release: Manifest, folder: Place) -> None:
    push(store, release, folder.url)
    pull(other, "m", folder.url)
    for number in range(1, 11):
        sign(store, release, number, bundle=f"mine {number}")
    sign(other, release, bundle="theirs")
    push(store, release, folder.url)
    push(other, release, folder.url)
    assert b"theirs" in folder.files()["signatures/m/1/11.json"]


def test_no_collector_comes_in_between(
    store: Store, release: Manifest, memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, refused = transfer.verified_chunks, []

    def chunks(*arguments: Any) -> Iterator[bytes]:
        with pytest.raises(StoreBusy), store.alone(0):
            pass
        refused.append(True)
        return original(*arguments)

    monkeypatch.setattr(transfer, "verified_chunks", chunks)
    push(store, release, memory.url)
    assert refused == [True] * 6


def test_a_store_in_use_is_not_pushed_into(store: Store, other: Store, release: Manifest) -> None:
    with pytest.raises(ReplicaError, match="that folder is a store"):
        push(store, release, str(other.root))
    assert in_store(other) == {}


def test_a_release_without_files(store: Store, other: Store, copy: Place) -> None:
    manifest, _ = make_release(store, "m", digest("one"))
    assert push(store, manifest, copy.url) == Copied(0, 0, 0, 0, release=True, signatures=0)
    assert pull(other, "m", copy.url)[0] == manifest


def test_a_user_in_the_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def find(*_: object, **__: object) -> None:
        raise PermissionError("memory://someone@place: some are not allowed")

    monkeypatch.setattr(MemoryFileSystem, "find", find)
    with refusal(ReplicaError, "memory://***@place/releases") as caught:
        Remote("memory://someone@place").sizes("releases")
    assert caught.value.where == "memory://***@place/releases"


def test_a_store_can_be_pulled_from(store: Store, other: Store, release: Manifest) -> None:
    assert pull(other, "m", str(store.root))[0] == release
    assert in_store(other) == in_store(store)


def test_a_folder_is_made_durable_before_the_manifest(
    store: Store, release: Manifest, folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    original = fs.flush_file

    def flush(path: Path) -> None:
        flushed.append(path.name)
        original(path)

    monkeypatch.setattr(fs, "flush_file", flush)
    push(store, release, folder.url)
    assert sorted(flushed[:-1]) == ["a", "a.bin", "b", "big.bin", "c", "d"]
    assert flushed[-1].startswith("1.json")


# --- large files over HTTP -------------------------------------------------------------------------------------------


def test_large_files_go_in_parts(store: Store, other: Store, bucket: Place, s3: Any) -> None:
    data = os.urandom(1 << 20) * 20 + b"end"
    ref = add(store, data, "engine")
    manifest, _ = make_release(store, "m", digest("one"), ref)
    push(store, manifest, bucket.url)
    name = bucket.url.split("/")[2]
    stored = s3.head_object(Bucket=name, Key=f"some/folder/{object_path(ref, 'engine')}")
    assert stored["ETag"].strip('"').endswith("-3")  # S3's mark of an upload in three parts
    assert bucket.files() == in_store(store)
    pull(other, "m", bucket.url)
    assert in_store(other) == in_store(store)


def test_an_interrupted_large_file_leaves_nothing(store: Store, bucket: Place, s3: Any) -> None:
    ref = add(store, bytes(20 << 20), "engine")
    manifest, _ = make_release(store, "m", digest("one"), ref)
    rewrite(place(store, ref) / "engine", bytes((20 << 20) - 1) + b"x")
    with pytest.raises(ObjectDamaged, match="engine"):
        push(store, manifest, bucket.url)
    assert bucket.files() == {}
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket.url.split("/")[2])


# --- errors ----------------------------------------------------------------------------------------------------------


class Flaky:
    """Fails a number of times in each of a file system's operations, then works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> None:
        from fsspec.implementations.memory import MemoryFileSystem

        self.failures = 0
        for name in ("find", "info", "cat_file", "open", "mv"):
            monkeypatch.setattr(MemoryFileSystem, name, self._wrap(getattr(MemoryFileSystem, name), error, times))

    def _wrap(self, original: Callable[..., Any], error: Exception, times: int) -> Callable[..., Any]:
        left = [times]

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if left[0] > 0:
                left[0] -= 1
                self.failures += 1
                raise error
            return original(*arguments, **options)

        return wrapped


@pytest.mark.parametrize(
    "error", [ConnectionResetError("reset"), TimeoutError("slow"), OSError(errno.EBUSY, "SlowDown")]
)
def test_transient_errors_are_tried_again(
    store: Store, other: Store, release: Manifest, memory: Place, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(replica, "_WORKERS", 1)
    with monkeypatch.context() as patched:
        flaky = Flaky(patched, error, 1)
        push(store, release, memory.url)
        pull(other, "m", memory.url)
        assert flaky.failures == 5
    assert memory.files() == in_store(store) == in_store(other)


@pytest.mark.parametrize(("error", "attempts"), [(ConnectionResetError("reset"), 4), (PermissionError("no"), 1)])
def test_lasting_errors_are_not(
    store: Store,
    release: Manifest,
    memory: Place,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    attempts: int,
) -> None:
    flaky = Flaky(monkeypatch, error, 10**6)
    with pytest.raises(ReplicaError, match=f"{type(error).__name__}: {error}") as caught:
        push(store, release, memory.url)
    assert flaky.failures == attempts
    assert caught.value.where == f"{memory.url}/releases/m/1.json"
    assert "credentials" in str(caught.value.fix)


@pytest.mark.usefixtures("s3")
def test_a_server_that_is_not_there(store: Store, release: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with refusal(ReplicaError, "s3://bucket/folder/releases/m/1.json"):
            push(store, release, "s3://bucket/folder")


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there(store: Store, release: Manifest) -> None:
    with pytest.raises(ReplicaError, match="FileNotFoundError"):
        push(store, release, "s3://no-such-bucket/folder")


def test_a_folder_that_cannot_be_written(store: Store, release: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refusal(ReplicaError, "1.json"):
        push(store, release, str(tmp_path / "file" / "copy"))


def test_a_full_disk_inserts_nothing(
    store: Store, other: Store, release: Manifest, memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(store, release, memory.url)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    with monkeypatch.context() as patched:
        patched.setattr(fs, "flush_file", full)
        with pytest.raises(DiskFull):
            pull(other, "m", memory.url)
    assert other.releases() == []
    assert list((other.root / "staging").iterdir()) == []


@pytest.mark.parametrize("url", ["nonsense://x/y", "s4://bucket"])
def test_a_url_nobody_knows(store: Store, release: Manifest, url: str) -> None:
    with pytest.raises(ReplicaError, match="Protocol not known") as caught:
        push(store, release, url)
    assert caught.value.where == url


def test_a_package_that_is_missing(store: Store, release: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = importlib.import_module("fsspec.registry")
    monkeypatch.delitem(registry._registry, "s3", raising=False)  # as in a new process
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ReplicaError, match="Install s3fs") as caught:
        push(store, release, "s3://bucket/folder")
    assert "clipsmith[s3]" in str(caught.value.fix)


# --- secrets ---------------------------------------------------------------------------------------------------------

SECRETS = [
    "s3://AKIAX:hunter2@bucket/folder",
    "s3://AKIAX:hun/ter2hunter2@bucket/folder",
    "sftp://me:hunter2@host/folder",
    "sftp://me:hunter2@host:2222/folder",
    "ftp://me:hunter2@hunter2@host/folder",
    "https://host/folder?token=hunter2",
    "https://host/folder?X-Amz-Signature=hunter2&b=hunter2#hunter2",
    "simplecache::s3://AKIAX:hunter2@bucket/folder",
    "s9://AKIAX:hunter2@bucket",
]


@pytest.mark.parametrize("url", SECRETS)
def test_secrets_in_urls_are_refused_and_never_shown(
    store: Store, release: Manifest, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for attempt in (lambda: push(store, release, url), lambda: pull(store, "m", url)):
        with pytest.raises(ConfigError) as caught:
            attempt()
        shown = "".join(traceback.format_exception(caught.value)).replace(repr(url), "")
        assert "hunter2" not in shown + repr(caught.value) + caplog.text
        assert "AKIAX" not in shown


@pytest.mark.parametrize("url", ["simplecache::s3://bucket/folder", "zip://a.zip::file:///folder"])
def test_chained_urls_are_refused(store: Store, release: Manifest, url: str) -> None:
    with pytest.raises(ConfigError, match="chained"):
        push(store, release, url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:secret@bucket/folder", "s3://***@bucket/folder"),
        ("sftp://me@host/folder", "sftp://***@host/folder"),
        ("https://host/a?token=secret", "https://host/a?***"),
        ("s3://bucket/folder@2", "s3://bucket/folder@2"),
        ("sftp://host:22/folder@2", "sftp://host:22/folder@2"),
        ("/folder/with?and@", "/folder/with?and@"),
        ("file:///folder/with?and@", "file:///folder/with?and@"),
    ],
)
def test_redaction(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize("name", ["with?mark", "with@at", "with space", "ü", "a#b", "a%20b"])
def test_folders_may_have_any_name(store: Store, other: Store, release: Manifest, tmp_path: Path, name: str) -> None:
    for url in (str(tmp_path / name), f"file://{tmp_path / name}"):
        push(store, release, url)
    assert in_folder(tmp_path / name).files() == in_store(store)
    assert pull(other, "m", str(tmp_path / name))[0] == release
