"""A pickle counts as ours only if this store made or signed its release, and whoever vouches for bytes hashes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts import places
from artifacts.copies.archive import pack, unpack
from artifacts.copies.replica import pull, push
from artifacts.errors import ObjectDamaged
from artifacts.keeping.promotion import promote, rollback
from artifacts.manifest import Manifest
from artifacts.store import aliases, layout, ledger, signatures
from artifacts.store.store import Store
from tasks.checkpoints.snapshot import STATE_FILE
from tasks.pipeline.checkpoint import _pin, _publisher
from tests.artifacts.support import add, digest, files_of, key_pair, make_release, place
from tests.wording import refusal

PICKLE = b"cos\nsystem\n(S'echo PWNED'\ntR."
Door = Callable[[Store, Manifest, Store, Path], object]


def by_archive(source: Store, manifest: Manifest, target: Store, folder: Path) -> None:
    pack(source, manifest, folder / "evil.tar")
    unpack(target, folder / "evil.tar")


def by_copy(source: Store, manifest: Manifest, target: Store, folder: Path) -> None:
    push(source, manifest, str(folder / "copy"))
    pull(target, manifest.ref, str(folder / "copy"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint's folder with a stranger's state in it."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / STATE_FILE).write_bytes(PICKLE)
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def release_of(store: Store, folder: Path) -> Manifest:
    """A release that records the folder's files as its checkpoint."""
    with store.staging() as staging:
        for file in folder.iterdir():
            (staging / file.name).write_bytes(file.read_bytes())
        ref = store.add(places.CHECKPOINT, staging)
    return make_release(store, "evil", digest("evil"), files=files_of(ref, places.CHECKPOINT))[0]


def passed_on(folder: Path, store: Store) -> bool:
    return _publisher(folder, _pin(folder), store)[1]


@pytest.mark.parametrize("door", [by_archive, by_copy])
def test_what_came_in_vouches_for_no_pickle_until_it_is_signed_here(
    checkpoint: Path, store: Store, tmp_path: Path, door: Door
) -> None:
    """Unpacking would make a stranger's code ours: the next run would put it into a release of this store."""
    source = Store.open(tmp_path / "source")
    made = release_of(source, checkpoint)
    assert passed_on(checkpoint, source)
    door(source, made, store, tmp_path)
    assert not passed_on(checkpoint, store)
    make_release(store, "evil", digest("evil"), add(store))  # found by its identity, which is not making it
    assert not passed_on(checkpoint, store)
    signatures.sign(store, store.find(made.ref), key_pair(tmp_path)[0], None)
    assert passed_on(checkpoint, store)


def test_a_strangers_signature_counts_only_if_promotions_ask_for_it(
    checkpoint: Path, store: Store, tmp_path: Path
) -> None:
    source = Store.open(tmp_path / "source")
    made = release_of(source, checkpoint)
    private, public = key_pair(tmp_path)
    signatures.sign(source, made, private, None)
    by_copy(source, made, store, tmp_path)
    (store.root / layout.POLICY).write_text(f"import: {{require_signature: [{public}]}}\n")
    assert not passed_on(checkpoint, store)
    (store.root / layout.POLICY).write_text(f"promotion: {{require_signature: [{public}]}}\n")
    assert passed_on(checkpoint, store)
    (store.root / layout.POLICY).write_text("promotion: {require_signature: [nothing.pem]}\n")
    assert not passed_on(checkpoint, store)


def test_a_release_of_before_and_one_under_a_vouched_name_vouch_for_nothing(
    checkpoint: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger of before says nothing of who made a release; what it says of a name is said of the bytes of then."""
    with monkeypatch.context() as before:
        append = ledger.append
        before.setattr(ledger, "append", lambda root, path, **_: append(root, path))
        made = release_of(store, checkpoint)
    assert not passed_on(checkpoint, store)
    path = layout.manifest_path(store.root, made.model, made.version)
    ledger.append(store.root, path, vouched=True)
    assert ledger.is_vouched(store.root, path)
    path.unlink()
    path.write_bytes(made.model_copy(update={"created": "2026-02-02T00:00:00+00:00"}).to_bytes())
    assert not ledger.is_vouched(store.root, path)


def damaged(path: Path) -> None:
    """Change a byte of a file; it keeps its size, inode and the time of its last change."""
    stat = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.write(b"\xff")
    path.chmod(0o444)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("vouching", ["promote", "promote again", "rollback", "sign", "check"])
def test_whoever_vouches_for_bytes_hashes_them(store: Store, tmp_path: Path, vouching: str) -> None:
    """Not once per process, and not by size and times: those can be forged."""
    private, public = key_pair(tmp_path)
    ref = add(store, b"engine" * 100)
    first, _ = make_release(store, "a", digest("1"), ref)
    make_release(store, "a", digest("2"), add(store, b"other"))
    promote(store, "a@1", "production")
    if vouching == "rollback":
        promote(store, "a@2", "production")
    signatures.sign(store, first, private, None)
    assert signatures.check(store, first, [public]).number == 1
    count = len(aliases.history(store.root, "a", "production"))
    damaged(place(store, ref) / "a.bin")
    does: dict[str, Callable[[], Any]] = {
        "promote": lambda: promote(store, "a@1", "staging"),
        "promote again": lambda: promote(store, "a@1", "production"),
        "rollback": lambda: rollback(store, "a", "production"),
        "sign": lambda: signatures.sign(store, first, private, None),
        "check": lambda: signatures.check(store, first, [public]),
    }
    with refusal(ObjectDamaged, "a.bin"):
        does[vouching]()
    assert len(aliases.history(store.root, "a", "production")) == count
    assert aliases.names(store.root) == [("a", "production")]
    assert len(signatures.signatures(store.root, "a", 1)) == 1


def test_a_link_in_the_place_of_a_file_is_damage(store: Store, tmp_path: Path) -> None:
    """Its bytes are right for as long as whoever owns them likes."""
    ref = add(store, b"engine")
    make_release(store, "a", digest("1"), ref)
    path = place(store, ref) / "a.bin"
    path.rename(tmp_path / "mine")
    path.symlink_to(tmp_path / "mine")
    with pytest.raises(ObjectDamaged):
        promote(store, "a@1", "production")
