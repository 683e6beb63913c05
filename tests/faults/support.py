"""What the fault tests share: a fast disk, releases whose bytes say what they are, and what must always be true."""

from __future__ import annotations

import copy
import hashlib
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from artifacts import locks
from artifacts.manifest import Manifest
from artifacts.refs import ArtifactRef, digest_file
from artifacts.schema import new_row
from artifacts.store import aliases, layout, ledger, tombstones
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, digest, make_release

SHARED = b"an object that every release has"
SEAM = (
    *("make_folder", "write_file", "set_read_only", "close_to_others", "flush_file", "flush_folder"),
    *("link", "rename", "unlink", "remove_folder"),
)
"""The single operations of `artifacts.fs`."""


def fast_folder() -> Path | None:
    """A folder in memory, where fsync costs nothing; None leaves it to the system."""
    memory = Path("/dev/shm")  # the tests' own files, in a folder of their own
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else None


def scratch(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder on it."""
    return tempfile.TemporaryDirectory(prefix=f"clipsmith-{prefix}-", dir=fast_folder())


def text_of(model: str, what: str) -> bytes:
    """The bytes of the object that only the release with this name has."""
    return f"{model} {what} ".encode() * 3


def publish(store: Store, model: str, what: str) -> Manifest:
    """Add objects and publish a release of them; equal names make equal releases."""
    own, shared = add(store, text_of(model, what)), add(store, SHARED, "deep/shared.bin")
    tables = {"stages": (new_row("stages", step=what),)}
    return make_release(store, model, digest(f"{model} {what}"), own, shared, tables=tables)[0]


@dataclass
class Acknowledged:
    """What calls that returned have promised."""

    objects: list[ArtifactRef] = field(default_factory=list)
    releases: dict[str, str] = field(default_factory=dict)  # model@version to the sha256 of the manifest
    moves: dict[tuple[str, str, int], str] = field(default_factory=dict)  # model, alias, number to model@version
    retired: set[str] = field(default_factory=set)
    signatures: set[tuple[str, int]] = field(default_factory=set)
    opened: bool = False
    damaged: bool = False

    def copy(self) -> Acknowledged:
        return copy.deepcopy(self)

    def published(self, manifest: Manifest) -> None:
        self.releases[manifest.ref] = sha256(manifest.to_bytes())

    def moved(self, entry: aliases.AliasEntry) -> None:
        self.moves[entry.model, entry.alias, entry.number] = entry.ref


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_sound(root: Path, done: Acknowledged, *, retiring: bool = False) -> None:
    """Everything that was acknowledged is there and whole, nothing is half there, and the store can be used at once.

    `retiring` allows what was acknowledged to have been retired, because a collector was at work.
    """
    if not done.opened and not (root / layout.HEADER).exists():
        assert not root.exists() or verify(root).problems == (), "a store that was only half made is damaged"
        Store.open(root).close()
    found = verify(root)
    assert found.problems == (), found.problems
    store = Store.open(root, writable=False)
    check_releases(store, done, retiring=retiring)
    check_aliases(store, done)
    for ref in done.objects:
        store.path(ref)
    for ref, number in done.signatures:
        model, _, version = ref.partition("@")
        if ref not in done.retired:
            assert number in layout.numbers(layout.signature_folder(root, model, int(version))), "a signature is lost"
    check_ledger(root, done)
    for name in (layout.HEADER, layout.PUBLISH_LOCK):
        assert not (root / name).exists() or locks.is_free(root / name), f"{name} is held"


def check_releases(store: Store, done: Acknowledged, *, retiring: bool) -> None:
    """Acknowledged releases are there with the bytes they had, or retired; every release can be read to the last."""
    releases = {manifest.ref: manifest for manifest in store.releases()}
    for ref, digest_of in done.releases.items():
        model, _, version = ref.partition("@")
        path = layout.manifest_path(store.root, model, int(version))
        if ref in releases:
            assert digest_file(path) == digest_of, f"{ref} is not what was published"
        else:
            assert retiring or ref in done.retired, f"{ref} was published and is gone"
            assert tombstones.read(path.with_suffix(".retired")).manifest == digest_of
    for manifest in releases.values():
        read_whole(store, manifest)


def check_ledger(root: Path, done: Acknowledged) -> None:
    """Every record that was acknowledged is noted, so that a copy that lost it is found out."""
    noted = {ledger.read(root, number).path for number in ledger.numbers(root)}
    releases = {f"releases/{ref.replace('@', '/')}.json" for ref in done.releases}
    moves = {f"aliases/{model}/{alias}/{number}.json" for model, alias, number in done.moves}
    signed = {f"signatures/{ref.replace('@', '/')}/{number}.json" for ref, number in done.signatures}
    assert not (releases | moves | signed) - noted


def read_whole(store: Store, manifest: Manifest) -> None:
    """Every file of a release has its bytes, and the one that is its own says which release it is."""
    what = str(manifest.tables["stages"][0]["step"])
    contents = [store.read(manifest, file.path).read_bytes() for file in manifest.files]
    assert contents == [text_of(manifest.model, what), SHARED], f"{manifest.ref} is not whole"
    assert manifest.provenance.source.digest == digest(f"{manifest.model} {what}")


def check_aliases(store: Store, done: Acknowledged) -> None:
    """No alias dangles, histories have no gaps, and every move that was acknowledged is in them."""
    seen: dict[tuple[str, str, int], str] = {}
    for model, alias in aliases.names(store.root):
        entries = aliases.history(store.root, model, alias)
        assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
        seen |= {(model, alias, entry.number): entry.ref for entry in entries}
        assert store.find(f"{model}:{alias}").ref == entries[-1].ref
    missing = {key: ref for key, ref in done.moves.items() if seen.get(key) != ref}
    assert not missing, f"moves that were acknowledged are not there: {missing}"


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
