"""Copies of releases elsewhere: `push` and `pull` between a store and a folder on any file system.

The copy has those folders of a store that hold releases: objects/, releases/, signatures/. Objects are copied first and
the manifest last, so a release exists once its manifest does. Only what is missing is copied, so after an interruption
the same command goes on where it was. Aliases belong to a store and are not copied.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from artifacts.copies import transfer
from artifacts.copies.remote import Remote
from artifacts.errors import (
    AmbiguousReference,
    ConfigError,
    DamagedManifest,
    DamagedSignature,
    ReleaseConflict,
    ReleaseNotFound,
    ReplicaError,
)
from artifacts.manifest import Manifest
from artifacts.names import Reference, parse_reference
from artifacts.records import dump
from artifacts.refs import ArtifactRef, FileEntry
from artifacts.store import layout, signatures
from artifacts.store.signatures import SignatureRecord
from artifacts.store.store import Store

Progress = Callable[[int], None]
_WORKERS = 8  # copies wait for the network more than they work
_HERE = Path()
_NUMBERED = re.compile(r"([1-9][0-9]{0,8})\.json")
_FIX_REMOTE = "remove it there and `clipsmith push` the release again from a store that `clipsmith verify` finds sound"
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Copied:
    """What a copy did: how many files and bytes of objects were copied, and how many were there already.

    `release` says whether the release was new on the receiving side, `signatures` how many signatures were new.
    """

    files: int
    bytes: int
    skipped_files: int
    skipped_bytes: int
    release: bool
    signatures: int

    @property
    def nothing(self) -> bool:
        """Whether both sides had the same already."""
        return not (self.files or self.release or self.signatures)


# --- push --------------------------------------------------------------------------------------------------


def push(store: Store, manifest: Manifest, url: str, progress: Progress | None = None) -> Copied:
    """Copy a release to `url`. A file that is there with the right size is skipped; each copied file is read back.

    `progress` is called with the bytes of each file once it is there.

    Raises:
        ConfigError: the URL holds credentials.
        ReleaseConflict: another release has this name and version there; nothing was changed.
        ObjectMissing, ObjectDamaged, DamagedSignature: the release is not sound here; it is not a release there.
        ReplicaError: the copy cannot be read or written.
    """
    remote = Remote(url)
    if remote.holds_a_store(layout.HEADER):
        fix = f"open that store and `clipsmith pull {manifest.ref}` from a copy, or give another folder"
        raise ReplicaError("that folder is a store, not a copy of one", where=remote.url, fix=fix)
    path = _manifest_path(manifest.model, manifest.version)
    with store.reading():
        records = signatures.signatures(store.root, manifest.model, manifest.version)
        found = _there(remote, path, manifest)
        refs = manifest.objects()
        missing = _missing(remote, refs)
        gone = {(ref.digest, entry.path) for ref, entry in missing}
        for ref, _ in missing:
            store.fetch(ref)
        skipped = _sizes((e for ref in refs for e in ref.files if (ref.digest, e.path) not in gone), progress)
        copied = _sizes(_parallel(lambda item: _send(store, manifest.ref, remote, *item), missing), progress)
    for ref, entry in _missing(remote, refs):
        raise _damaged(remote, _object_path(ref, entry.path), entry, "nothing, or a part of it,")
    for ref in refs:
        remote.settle(_object_path(ref))
    if found != manifest.to_bytes():
        _commit(remote, path, manifest, replace=found is not None)
    added = sum(_send_signature(remote, manifest, record) for record in records)
    return Copied(len(copied), sum(copied), len(skipped), sum(skipped), found is None, added)


def send_object(store: Store, remote: Remote, ref: ArtifactRef, *, replace: bool = False) -> None:
    """Copy the missing files of an object to the remote folder, or all of them with `replace`, and read them back.

    Raises:
        ObjectMissing, ObjectDamaged: it is not sound here.
        ReplicaError: it cannot be written.
    """
    missing = [(ref, entry) for entry in ref.files] if replace else _missing(remote, [ref])
    for _ in _parallel(lambda item: _send(store, f"{ref.kind} object {ref.digest[:12]}", remote, *item), missing):
        pass
    if missing:
        remote.settle(_object_path(ref))


def _there(remote: Remote, path: str, manifest: Manifest) -> bytes | None:
    """The bytes at the manifest's path there: None, the manifest, or something damaged that may be replaced."""
    found = remote.read(path)
    if found is None or found == manifest.to_bytes():
        return found
    try:
        Manifest.from_bytes(found, where=remote.where(path))
    except DamagedManifest:
        return found
    raise _conflict(remote, path, manifest)


def is_whole(remote: Remote, ref: ArtifactRef) -> bool:
    """Whether every file of an object is there with its size."""
    return not _missing(remote, [ref])


def _missing(remote: Remote, refs: Iterable[ArtifactRef]) -> list[tuple[ArtifactRef, FileEntry]]:
    refs = list(refs)
    found = _parallel(lambda ref: remote.sizes(_object_path(ref)), refs)
    return [
        (ref, entry)
        for ref, sizes in zip(refs, found, strict=True)
        for entry in ref.files
        if sizes.get(entry.path) != entry.size
    ]


def _send(store: Store, owner: str, remote: Remote, ref: ArtifactRef, entry: FileEntry) -> FileEntry:
    path = _object_path(ref, entry.path)
    remote.upload(path, entry.size, lambda: transfer.verified_chunks(store, owner, ref, entry))
    if remote.digest(path, entry.size) != entry.sha256:
        remote.remove(path)  # else its size would make it count as copied
        raise ReplicaError(
            "what was written is not what was sent",
            where=remote.where(path),
            expected=f"{entry.size} bytes with sha256 {entry.sha256[:12]}...",
            fix="run the same command again; if it happens again, that storage cannot be trusted",
        )
    return entry


def _commit(remote: Remote, path: str, manifest: Manifest, *, replace: bool) -> None:
    data = manifest.to_bytes()
    if replace:
        remote.upload(path, len(data), lambda: [data])
    else:
        remote.create(path, data)
    if remote.read(path) != data:  # another pusher was faster
        raise _conflict(remote, path, manifest)


def _conflict(remote: Remote, path: str, manifest: Manifest) -> ReleaseConflict:
    return ReleaseConflict(
        f"the copy has another release named {manifest.ref}",
        where=remote.where(path),
        expected=f"identity {manifest.identity[:12]}",
        fix="versions are immutable: keep the two in different copies",
    )


def _send_signature(remote: Remote, manifest: Manifest, record: SignatureRecord) -> bool:
    """Put a signature there under its own number, or the next free one; False when it is there already."""
    folder = _signature_folder(record.model, record.version)
    while True:
        numbers = _numbers(remote, folder)
        if record.bundle in _bundles(remote, manifest, numbers):
            return False
        if record.number in numbers:
            record = record.model_copy(update={"number": numbers[-1] + 1})
        if remote.create(f"{folder}/{record.number}.json", dump(record)):
            return True


def _bundles(remote: Remote, manifest: Manifest, numbers: Iterable[int]) -> set[str]:
    bundles = set()
    for number in numbers:
        path = f"{_signature_folder(manifest.model, manifest.version)}/{number}.json"
        try:
            bundles.add(transfer.parse_signature(remote.read(path) or b"", manifest, remote.where(path)).bundle)
        except DamagedSignature:  # `pull` reports it
            continue
    return bundles


# --- pull --------------------------------------------------------------------------------------------------


def pull(store: Store, reference: str, url: str, progress: Progress | None = None) -> tuple[Manifest, Copied]:
    """Copy a release from `url` into the store: `model` (its newest there), `model@version` or a digest prefix.

    Sound objects in the store are not copied again; damaged and missing ones are restored. `progress` is called with
    the bytes of each object once it is in the store.

    Raises:
        ConfigError: the URL holds credentials, the reference names an alias, or the policy cannot be understood.
        BadName, ReleaseNotFound, AmbiguousReference: the copy has no such release, or several.
        ReleaseConflict: another release has this name and version here; nothing was changed.
        ReplicaError: the copy cannot be read, or is damaged; no release was inserted.
        ReleaseDiffers: its identity, tables or results do not follow from what it holds; no release was inserted.
        TableError: a file in it is not what clipsmith writes, or would take more room; no release was inserted.
        SignatureRequired: the store's policy asks for a signature that the release does not have; nothing was copied.
        DiskFull: there is no room.
    """
    remote = Remote(url)
    manifest = _find(remote, reference)
    transfer.refuse(store, manifest)
    records = list(_signatures(remote, manifest))
    transfer.refuse_unsigned(store, manifest, records)
    copied: list[int] = []
    skipped: list[int] = []
    refs = manifest.objects()
    for ref, here in zip(refs, _parallel(lambda ref: _receive(store, remote, ref), refs), strict=True):
        (skipped if here else copied).extend(_sizes(ref.files, progress))
    new, added = transfer.insert(store, manifest, records)
    return manifest, Copied(len(copied), sum(copied), len(skipped), sum(skipped), new, added)


def _receive(store: Store, remote: Remote, ref: ArtifactRef) -> bool:
    """Make sure that an object is in the store; return whether it was there already."""
    if transfer.has_object(store, ref):
        return True
    fetch_object(store, remote, ref)
    return False


def fetch_object(store: Store, remote: Remote, ref: ArtifactRef) -> None:
    """Copy an object from the remote folder into the store; a damaged one in the store is replaced.

    Raises:
        ReplicaError: it is missing or damaged there, or cannot be read; nothing was added.
    """
    sizes = remote.sizes(_object_path(ref))
    with store.staging() as folder:
        for entry in ref.files:
            path = _object_path(ref, entry.path)
            if sizes.get(entry.path) != entry.size:
                raise _damaged(remote, path, entry, f"{sizes.get(entry.path, 'no')} bytes")
            if _download(remote, path, entry, folder) != entry.sha256:
                raise _damaged(remote, path, entry, "other bytes")
        if store.add(ref.kind, folder).digest != ref.digest:
            raise ReplicaError(
                f"the files of {ref.kind} object {ref.digest[:12]} changed while they were copied",
                where=remote.where(_object_path(ref)),
                fix="run the same command again",
            )


def _download(remote: Remote, path: str, entry: FileEntry, folder: Path) -> str:
    """Fetch a file into an object's folder; return the sha256 of the received bytes."""
    target = folder / entry.path
    digest = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        out = target.open("xb")
    except (FileExistsError, IsADirectoryError, NotADirectoryError):  # "a" and "a/b" in one object
        raise ReplicaError(
            "the manifest lists names that are in each other's way", where=remote.where(path), fix=_FIX_REMOTE
        ) from None
    with out:
        for chunk in remote.chunks(path, entry.size):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _damaged(remote: Remote, path: str, entry: FileEntry, found: str) -> ReplicaError:
    return ReplicaError(
        f"the {remote.name} is damaged: {found} where {entry.path} should be",
        where=remote.where(path),
        expected=f"{entry.size} bytes with sha256 {entry.sha256[:12]}...",
        fix=_FIX_REMOTE,
    )


def _signatures(remote: Remote, manifest: Manifest) -> Iterator[SignatureRecord]:
    folder = _signature_folder(manifest.model, manifest.version)
    for number in _numbers(remote, folder):
        path = f"{folder}/{number}.json"
        try:
            yield transfer.parse_signature(remote.read(path) or b"", manifest, remote.where(path))
        except DamagedSignature as error:
            raise ReplicaError(
                f"the copy is damaged: {error.what}", where=remote.where(path), fix=_FIX_REMOTE
            ) from error


# --- finding releases there --------------------------------------------------------------------------------


def _find(remote: Remote, reference: str) -> Manifest:
    wanted = parse_reference(reference)
    if wanted.alias is not None:
        raise ConfigError(
            f"{reference} is an alias, and aliases belong to a store: a copy has none",
            where=remote.url,
            expected="model, model@version or a digest prefix",
            fix=f"`clipsmith aliases` in the store that has it says which version {reference} is",
        )
    if wanted.model is not None:
        numbers = _numbers(remote, f"releases/{wanted.model}")
        version = wanted.version if wanted.version is not None else max(numbers, default=0)
        if version in numbers:
            return _manifest(remote, wanted.model, version)
    return _by_digest(remote, reference, wanted)


def _by_digest(remote: Remote, reference: str, wanted: Reference) -> Manifest:
    """The one release there whose identity starts with the wanted digits."""
    pairs = (path.partition("/") for path in sorted(remote.sizes("releases")))
    known = [(model, int(match[1])) for model, _, name in pairs if (match := _NUMBERED.fullmatch(name))]
    found: list[Manifest] = []
    if prefix := wanted.digest_prefix:
        manifests = _parallel(lambda item: _manifest_like(remote, prefix, *item), known)
        found = [manifest for manifest in manifests if manifest]
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousReference(
            f"{len(found)} releases have an identity that starts with {reference!r}",
            where=remote.url,
            expected=f"one of: {', '.join(manifest.ref for manifest in found[:10])}",
            fix="give more digits, or model@version",
        )
    names = ", ".join(f"{model}@{version}" for model, version in known[:10]) or "none"
    raise ReleaseNotFound(f"the copy has no release {reference!r}", where=remote.url, expected=f"one of: {names}")


def _manifest(remote: Remote, model: str, version: int) -> Manifest:
    """A manifest there, verified against its own digest and its place."""
    path = _manifest_path(model, version)
    try:
        manifest = Manifest.from_bytes(remote.read(path) or b"", where=remote.where(path))
        manifest.objects()
    except DamagedManifest as error:
        raise ReplicaError(f"the copy is damaged: {error.what}", where=remote.where(path), fix=_FIX_REMOTE) from error
    if (manifest.model, manifest.version) != (model, version):
        raise ReplicaError(
            f"the copy is damaged: the manifest of {manifest.ref} is not in its place",
            where=remote.where(path),
            fix=_FIX_REMOTE,
        )
    return manifest


def _manifest_like(remote: Remote, prefix: str, model: str, version: int) -> Manifest | None:
    """A manifest there whose identity starts with `prefix`, else None; a damaged one is skipped."""
    data = remote.read(_manifest_path(model, version))
    try:
        manifest = Manifest.from_bytes(data or b"", where=remote.url)
    except DamagedManifest:
        return None
    return manifest if manifest.identity.startswith(prefix) else None


def _numbers(remote: Remote, folder: str) -> list[int]:
    """The numbers of a folder's `<n>.json` files there, in order."""
    return sorted(int(match[1]) for name in remote.sizes(folder) if (match := _NUMBERED.fullmatch(name)))


# --- the layout, which is the store's ----------------------------------------------------------------------


def _object_path(ref: ArtifactRef, member: str = "") -> str:
    return (layout.object_folder(_HERE, ref.digest) / member).as_posix()


def _manifest_path(model: str, version: int) -> str:
    return layout.manifest_path(_HERE, model, version).as_posix()


def _signature_folder(model: str, version: int) -> str:
    return layout.signature_folder(_HERE, model, version).as_posix()


# --- helpers -----------------------------------------------------------------------------------------------


def _parallel(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """The results in order; after an error no further item is started."""
    with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        yield from pool.map(work, items)


def _sizes(entries: Iterable[FileEntry], progress: Progress | None) -> list[int]:
    """The size of each file, in bytes, which is reported as progress when the file has come."""
    sizes = []
    for entry in entries:
        sizes.append(entry.size)
        if progress is not None:
            progress(entry.size)
    return sizes
