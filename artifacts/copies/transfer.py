"""What archives and remote copies share: verified reading, the checks of an incoming release, and its insertion."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from artifacts import fs, limits, locks
from artifacts.errors import DamagedSignature, ObjectDamaged, ObjectMissing
from artifacts.manifest import Manifest
from artifacts.records import dump, read_bytes
from artifacts.refs import ArtifactRef, FileEntry
from artifacts.release.coherence import check_manifest
from artifacts.release.contents import check_contents
from artifacts.store import layout, ledger, signatures
from artifacts.store.policy import read_policy
from artifacts.store.signatures import SignatureRecord
from artifacts.store.store import Store

_CHUNK = 1 << 20


def verified_chunks(store: Store, owner: str, ref: ArtifactRef, entry: FileEntry) -> Iterator[bytes]:
    """The bytes of one file of an object, chunk by chunk; the last chunk is given only if the digest of all is right.

    `owner` is how messages call the release that the object belongs to.

    Raises:
        ObjectMissing, ObjectDamaged.
    """
    path = layout.object_folder(store.root, ref.digest) / entry.path
    digest, size, held = hashlib.sha256(), 0, b""
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                if held:
                    yield held
                digest.update(chunk)
                size, held = size + len(chunk), chunk
    except FileNotFoundError as error:
        raise ObjectMissing(
            f"{owner} has lost {entry.path} of its {ref.kind}", where=path, fix="run `clipsmith verify --repair`"
        ) from error
    except OSError as error:
        raise ObjectDamaged(
            f"{owner}: {path.name} cannot be read: {error}", where=path, fix="run `clipsmith verify --repair`"
        ) from error
    if size != entry.size or digest.hexdigest() != entry.sha256:
        raise ObjectDamaged(
            f"{owner}: {entry.path} of its {ref.kind} is damaged",
            where=path,
            expected=f"{entry.size} bytes with sha256 {entry.sha256[:12]}...",
            fix="run `clipsmith verify --repair`",
        )
    if held:
        yield held


def has_object(store: Store, ref: ArtifactRef) -> bool:
    """Whether the store has a sound copy of the object; from then on this process holds it against the collector."""
    try:
        store.check(ref)
    except (ObjectDamaged, ObjectMissing):
        return False
    return True


def refuse(store: Store, manifest: Manifest) -> None:
    """Refuse a release before anything is copied: its manifest contradicts itself, or its name and version are taken.

    A damaged manifest in the store does not block the release that it once was.

    Raises:
        ReleaseDiffers: its identity or its results do not follow from its manifest.
        ReleaseConflict: another release has this name and version here, or its version is absurdly high.
    """
    check_manifest(manifest)
    store.refuse_leap(manifest)
    path = layout.manifest_path(store.root, manifest.model, manifest.version)
    data = manifest.to_bytes()
    if path.exists() and read_bytes(path, limits.MANIFEST) != data and not _was_written(store.root, path, data):
        raise store.conflict(manifest)


def refuse_unsigned(store: Store, manifest: Manifest, records: Iterable[SignatureRecord]) -> None:
    """Refuse a release that lacks a signature that the store's policy requires for imports.

    `records` are the signatures that come with the release.

    Raises:
        SignatureRequired: neither they nor signatures that are here already satisfy the policy.
        ConfigError: the policy cannot be understood.
    """
    keys = read_policy(store.root).on_import.require_signature
    if keys:
        here = signatures.signatures(store.root, manifest.model, manifest.version)
        signatures.first_of([*records, *here], manifest, [store.root / key for key in keys], where=store.root)


def parse_signature(data: bytes, manifest: Manifest, where: object) -> SignatureRecord:
    """A signature that came with a release.

    Raises:
        DamagedSignature: it cannot be read, or is another release's.
    """
    record = signatures.parse_signature(data, where)
    if (record.model, record.version) != (manifest.model, manifest.version):
        raise DamagedSignature(f"a signature of {record.model}@{record.version} came with {manifest.ref}", where=where)
    return record


def insert(store: Store, manifest: Manifest, records: Iterable[SignatureRecord]) -> tuple[bool, int]:
    """Put a release and its signatures into the store, which must hold its objects by now.

    Returns whether the release was new, and how many signatures were new.

    Raises:
        ReleaseConflict, ObjectMissing, SignatureRequired, ReleaseDiffers, TableError: nothing was inserted.
    """
    records = list(records)
    refuse_unsigned(store, manifest, records)
    check_contents(manifest, lambda file: layout.object_folder(store.root, file.object) / file.member)
    _make_way(store, layout.manifest_path(store.root, manifest.model, manifest.version), manifest.to_bytes())
    return store.insert(manifest, came=True), sum(_add_signature(store, record) for record in records)


def _add_signature(store: Store, record: SignatureRecord) -> bool:
    """Keep a signature under its own number, or the next free one if that is taken; False when it is here already."""
    folder = layout.signature_folder(store.root, record.model, record.version)
    _make_way(store, folder / f"{record.number}.json", dump(record))
    with store.reading():
        while (known := _find(folder, record.bundle)) is None:
            try:
                store.write_record(folder / f"{record.number}.json", dump(record))
            except FileExistsError:
                record = record.model_copy(update={"number": layout.free_number(layout.numbers(folder))})
                continue
            return True
        store.keep_record(known)
    return False


def _find(folder: Path, bundle: str) -> Path | None:
    """Where a signature is kept already."""
    for number in layout.numbers(folder):
        path = folder / f"{number}.json"
        with suppress(DamagedSignature):  # `clipsmith verify` reports it
            if signatures.read(path).bundle == bundle:
                return path
    return None


def _make_way(store: Store, path: Path, data: bytes) -> None:
    """Move a damaged record aside if `data` is what was once written there."""
    with locks.exclusive(store.root / layout.PUBLISH_LOCK), store.reading():
        if path.exists() and read_bytes(path, limits.MANIFEST) != data and _was_written(store.root, path, data):
            fs.move_away(path, store.root / "quarantine" / f"{path.name}-{uuid.uuid4().hex}")


def _was_written(root: Path, path: Path, data: bytes) -> bool:
    """Whether the ledger says that exactly `data` was put into the store as `path`."""
    wanted = (path.relative_to(root).as_posix(), hashlib.sha256(data).hexdigest())
    return any((entry.path, entry.sha256) == wanted for entry in ledger.entries(root))
