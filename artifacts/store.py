"""A local store: immutable content-addressed objects and the releases that refer to them.

store/store.json                     format and identity of the store
store/objects/ab/abcd.../<files>     one folder per object, named by its digest, read-only
store/releases/<model>/<n>.json      one manifest per release, written last and once
store/cache/  store/staging/         Prefect's task records; work in progress
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from artifacts import fs
from artifacts.errors import (
    DamagedManifest,
    ExportFailed,
    ExportTargetExists,
    NotAStore,
    ObjectDamaged,
    ObjectMissing,
    ReleaseNotFound,
    StoreError,
    StoreReadOnly,
)
from artifacts.manifest import Manifest
from artifacts.names import parse_reference
from artifacts.refs import ArtifactRef, FileEntry, canonical_json, digest_file

_FORMAT = 1
_FOLDERS = ("objects", "releases", "staging")
_MAKE_AGAIN = "run `clipsmith optimize` with the same parameters to make it again"
_Signature = tuple[tuple[str, int, int, int], ...]


class Store:
    """A store in a local folder. Use `Store.open`."""

    def __init__(self, root: Path, identity: str) -> None:
        self.root = root
        self.id = identity
        self._verified: dict[str, _Signature] = {}

    # --- opening -------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, root: Path | str, *, writable: bool = True) -> Store:
        """Open the store in `root`; when `writable`, make an empty one where there is none.

        Raises:
            NotAStore: the folder holds something else, a store of another format, or (read-only) nothing.
            StoreReadOnly: `writable` and the folder cannot be written.
        """
        root = Path(root).expanduser().absolute()
        if writable:
            _prepare(root)
        try:
            header = json.loads((root / "store.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotAStore(
                "there is no clipsmith store here", where=root, fix="run `clipsmith optimize`, or give --store"
            ) from error
        except (ValueError, OSError) as error:
            raise NotAStore(f"the store's header cannot be read: {error}", where=root / "store.json") from error
        match header:
            case {"format": format_, "id": str(identity)} if format_ == _FORMAT:
                return cls(root, identity)
        raise NotAStore("the store's header is of another format", where=root, expected=f"format {_FORMAT}")

    # --- objects -------------------------------------------------------------------------------------------

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A fresh folder inside the store to write into; gone afterwards unless `add` took it."""
        folder = self.root / "staging" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            fs.discard_tree(folder)

    def add(self, kind: str, folder: Path) -> ArtifactRef:
        """Take the files below `folder` (inside `staging()`) as one immutable object and return its reference.

        An equal object that is already there and sound is kept; a damaged one is replaced.
        """
        files = [
            FileEntry(path=path.relative_to(folder).as_posix(), sha256=digest_file(path), size=path.stat().st_size)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        if not files:
            raise StoreError(f"a {kind} object without files", where=folder)
        ref = ArtifactRef.of(kind, files)
        final = self._place(ref.digest)
        if final.exists():
            try:
                self.check(ref)
                return ref
            except (ObjectDamaged, ObjectMissing):
                final.rename(self.root / "staging" / f"damaged-{uuid.uuid4().hex}")
        try:
            fs.commit_tree(folder, final)
        except FileExistsError:
            self.check(ref)
        self._verified[ref.digest] = self._signature(ref)
        return ref

    def check(self, ref: ArtifactRef) -> None:
        """Make sure the object is here with the right bytes; files unchanged since the last check are not re-read.

        Raises:
            ObjectMissing: the object or one of its files is not in this store.
            ObjectDamaged: a file's bytes do not match.
        """
        signature = self._signature(ref)
        if self._verified.get(ref.digest) == signature:
            return
        for entry in ref.files:
            path = self._place(ref.digest) / entry.path
            if path.stat().st_size != entry.size or digest_file(path) != entry.sha256:
                raise ObjectDamaged(
                    f"{ref.kind} object {ref.digest[:12]} is damaged",
                    where=path,
                    expected=f"{entry.size} bytes with sha256 {entry.sha256[:12]}...",
                    fix=_MAKE_AGAIN,
                )
        self._verified[ref.digest] = signature

    def path(self, ref: ArtifactRef, member: str | None = None) -> Path:
        """The verified folder of an object, or the path of one of its files. Read only; never write there."""
        self.check(ref)
        return self._place(ref.digest) if member is None else self._place(ref.digest) / ref.entry(member).path

    def _place(self, digest: str) -> Path:
        return self.root / "objects" / digest[:2] / digest

    def _signature(self, ref: ArtifactRef) -> _Signature:
        rows = []
        for entry in ref.files:
            path = self._place(ref.digest) / entry.path
            try:
                stat = path.lstat()
            except FileNotFoundError as error:
                raise ObjectMissing(
                    f"{ref.kind} object {ref.digest[:12]} is not in this store",
                    where=path,
                    fix=_MAKE_AGAIN,
                ) from error
            rows.append((entry.path, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(rows)

    # --- releases ------------------------------------------------------------------------------------------

    def publish(self, model: str, identity: str, build: Callable[[int, int], Manifest]) -> tuple[Manifest, bool]:
        """Publish one release; the manifest appears last, in one step.

        `build(version, sequence)` makes the manifest for the next version. A release of `model` with the same
        `identity` is returned instead when there is one; the flag says whether a new one was made.
        """
        with fs.exclusive_lock(self.root / "publish.lock"):
            existing = self.releases()
            for manifest in existing:
                if manifest.model == model and manifest.identity == identity:
                    return manifest, False
            version = 1 + max((m.version for m in existing if m.model == model), default=0)
            manifest = build(version, 1 + max((m.sequence for m in existing), default=0))
            self._check_files(manifest)
            path = self._manifest_path(model, version)
            path.parent.mkdir(parents=True, exist_ok=True)
            fs.fsync_folder(path.parent.parent)
            fs.write_exclusive(path, manifest.to_bytes(), self.root / "staging")
            return manifest, True

    def releases(self) -> list[Manifest]:
        """Every release, newest first."""
        manifests = [self._manifest(path) for path in (self.root / "releases").glob("*/*.json")]
        return sorted(manifests, key=lambda m: (m.sequence, m.model), reverse=True)

    def find(self, reference: str) -> Manifest:
        """The release that `reference` names (see `artifacts.names.parse_reference`).

        Raises:
            BadName, ReleaseNotFound.
        """
        wanted = parse_reference(reference)
        releases = self.releases()
        for manifest in releases:
            if wanted.digest_prefix is not None and manifest.identity.startswith(wanted.digest_prefix):
                return manifest
            if manifest.model == wanted.model and wanted.version in (None, manifest.version):
                return manifest
        known = ", ".join(m.ref for m in releases[:10]) or "none"
        raise ReleaseNotFound(
            f"no release {reference!r}", where=self.root, expected=f"one of: {known}", fix="see `clipsmith releases`"
        )

    def read(self, manifest: Manifest, path: str) -> Path:
        """The verified path in the store of one file of a release; KeyError when the release has no such file."""
        for file in manifest.files:
            if file.path == path:
                location = self._place(file.object) / file.member
                if not location.is_file():
                    raise ObjectMissing(f"{manifest.ref} has lost {path}", where=location, fix=_MAKE_AGAIN)
                if digest_file(location) != file.sha256:
                    raise ObjectDamaged(f"{manifest.ref}: {path} is damaged", where=location, fix=_MAKE_AGAIN)
                return location
        raise KeyError(f"{manifest.ref} has no file {path!r}")

    def export(self, manifest: Manifest, destination: Path) -> None:
        """Write a release as a plain folder; every file is verified on the way.

        Raises:
            ExportTargetExists: `destination` is a file or a folder that is not empty.
            ExportFailed: it cannot be written.
        """
        destination = destination.expanduser().absolute()
        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise ExportTargetExists("the export folder is not empty", where=destination, fix="give an empty folder")
        scratch = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}")
        try:
            self._copy_out(manifest, scratch)
            if destination.exists():
                destination.rmdir()
            scratch.rename(destination)
        except OSError as error:
            raise ExportFailed(
                f"the release cannot be written: {error.strerror or error}",
                where=destination,
                fix="give a folder on a disk that can be written and has room",
            ) from error
        finally:
            fs.discard_tree(scratch)

    def _copy_out(self, manifest: Manifest, folder: Path) -> None:
        for file in manifest.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.read(manifest, file.path), target)
        (folder / "manifest.json").write_bytes(manifest.to_bytes())

    def _manifest(self, path: Path) -> Manifest:
        manifest = Manifest.from_bytes(path.read_bytes(), where=path)
        if path != self._manifest_path(manifest.model, manifest.version):
            raise DamagedManifest(f"the manifest of {manifest.ref} is not in its place", where=path, fix="move it back")
        return manifest

    def _manifest_path(self, model: str, version: int) -> Path:
        return self.root / "releases" / model / f"{version}.json"

    def _check_files(self, manifest: Manifest) -> None:
        for file in manifest.files:
            location = self._place(file.object) / file.member
            if not location.is_file() or location.stat().st_size != file.size:
                raise ObjectMissing(f"the release refers to {file.path}, which is not in the store", where=location)


def _prepare(root: Path) -> None:
    """Make an empty store where there is none, and prove that the store can be written."""
    try:
        if root.exists() and not (root / "store.json").exists() and _strangers(root):
            raise NotAStore("the folder holds something else", where=root, fix="give an empty or new folder")
        _refuse_read_only(root)
        for folder in _FOLDERS:
            (root / folder).mkdir(parents=True, exist_ok=True)
        if not (root / "store.json").exists():
            header = canonical_json({"format": _FORMAT, "id": uuid.uuid4().hex})
            try:
                fs.write_exclusive(root / "store.json", header, root / "staging")
            except FileExistsError:
                return  # another process was first; its header counts
        probe = root / "staging" / f"probe-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreReadOnly(
            f"the store cannot be written: {error.strerror or error}",
            where=root,
            fix="free space, change the folder's permissions, or give another --store",
        ) from error


def _strangers(root: Path) -> bool:
    """Whether the folder holds anything but a store that another process is just making."""
    return any(path.name not in _FOLDERS for path in root.iterdir())


def _refuse_read_only(root: Path) -> None:
    """Root may write anywhere, so the permission bits are what says that a folder is meant to be read-only."""
    existing = next(path for path in (root, *root.parents) if path.exists())
    if existing == root and not existing.stat().st_mode & 0o222:
        raise StoreReadOnly("the store is read-only", where=root, fix="make it writable or give another --store")


_active: ContextVar[Store | None] = ContextVar("clipsmith_store", default=None)


@contextmanager
def activate(store: Store) -> Iterator[Store]:
    """Make `store` the one in which references are looked up and verified."""
    token = _active.set(store)
    try:
        yield store
    finally:
        _active.reset(token)


def active_store() -> Store:
    """The store of the running flow; StoreError outside `activate`."""
    store = _active.get()
    if store is None:
        raise StoreError("no store is active", fix="run inside `with activate(Store.open(...))`")
    return store
