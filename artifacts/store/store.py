"""A local store: immutable content-addressed objects, the releases that refer to them, and the aliases of releases.

store/store.json                       format and identity; its flock separates the collector from all other users
store/objects/ab/abcd.../<files>       one folder per object, named by its digest, read-only
store/releases/<model>/<n>.json        one manifest per release, written last and once; `<n>.retired` when it is gone
store/aliases/<model>/<alias>/<n>.json one entry per move of an alias; the last one counts
store/signatures/<model>/<version>/    signatures of a release
store/ledger/<k>/<n>.json              one entry per record above, so that lost records are noticed
store/policy.yaml                      the signatures that promotions and imports require; written by people
store/bucket.json                      the bucket that this store is the working copy of (see artifacts.copies.shared)
store/staging/ leases/ locks/          work in progress, who is alive, which step is being computed
store/quarantine/ cache/               damaged things that were moved out of the way; what can be derived again: what
                                       steps returned (see artifacts.store.results), and what one had done when it was
                                       killed (see artifacts.store.unfinished)
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from artifacts import fs, limits, locks
from artifacts.errors import (
    AmbiguousReference,
    ClipsmithError,
    ConfigError,
    DamagedHeader,
    DamagedManifest,
    DiskFull,
    NotAStore,
    ObjectDamaged,
    ObjectMissing,
    ReleaseConflict,
    ReleaseNotFound,
    StoreError,
    StoreReadOnly,
)
from artifacts.manifest import Manifest, ReleaseFile
from artifacts.models import Frozen
from artifacts.names import Reference, parse_reference
from artifacts.number_words import megabytes
from artifacts.records import dump, parse, read_bytes
from artifacts.refs import ArtifactRef, FileEntry, digest_file
from artifacts.store import aliases, index, layout, ledger, tombstones
from artifacts.store.mounts import refuse_network
from artifacts.store.permissions import keep_others_out, keep_private

FORMAT: Literal[1] = 1
BUCKET_VARIABLE = "CLIPSMITH_BUCKET"
"""Environment variable: the URL of the bucket that this host's store is a working copy of."""
_MAKE_AGAIN = "run `clipsmith optimize` with the same parameters to make it again, or `clipsmith pull` it from a copy"
_Signature = tuple[tuple[str, int, int, int, int], ...]


class _Header(Frozen):
    format: Literal[1] = FORMAT
    id: str


class Store:
    """A store in a local folder. Use `Store.open`."""

    def __init__(self, root: Path, identity: str, *, writable: bool) -> None:
        self.root = root
        self.id = identity
        self.writable = writable
        self._verified: dict[str, _Signature] = {}
        self._lease: locks.Lease | None = None
        self._mutex = threading.Lock()

    # --- opening -------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, root: Path | str, *, writable: bool = True) -> Store:
        """Open the store in `root`; when `writable`, make an empty one where there is none.

        Commands and flows open stores with `artifacts.copies.opening.open_store`, which also joins buckets.

        Raises:
            NotAStore: the folder holds something else, or (read-only) nothing.
            DamagedHeader: the store is of another format, or its header is damaged.
            StoreReadOnly: `writable` and the folder cannot be written.
            UnsupportedFileSystem: `writable` and the folder is on a network file system.
            StoreOpenToOthers: other users may write in it, and we cannot change that.
            ConfigError: `writable` and the store is a bucket's working copy, which only `open_store` may write.
        """
        root, identity = look_into(root, writable=writable)
        if writable and (root / layout.BUCKET).exists():
            raise ConfigError(
                f"the store is the working copy of a bucket, and ${BUCKET_VARIABLE} does not name it",
                where=root / layout.BUCKET,
                fix=f"set {BUCKET_VARIABLE} to the bucket's URL, or give another --store; in Python, use open_store",
            )
        return cls(root, identity, writable=writable)

    def refresh(self) -> None:
        """Bring in what other hosts have published: nothing, unless the store is shared (artifacts.copies.shared)."""

    def reading(self) -> AbstractContextManager[None]:
        """A context in which no collector removes anything: use it to read several files of a release."""
        return locks.shared(self.root / layout.HEADER)

    def alone(self, timeout_s: float) -> AbstractContextManager[None]:
        """Hold the store alone, for the collector. Raises: StoreBusy."""
        return locks.exclusive(self.root / layout.HEADER, timeout_s)

    @property
    def lease(self) -> locks.Lease:
        """The lease of this process, which protects what it names from the collector; use it inside `reading()`."""
        with self._mutex:
            if self._lease is None:
                self._lease = locks.Lease(self.root / "leases")
            return self._lease

    def close(self) -> None:
        """Release everything that this process holds in the store."""
        with self._mutex:
            if self._lease is not None:
                self._lease.close()
            self._lease = None

    # --- objects -------------------------------------------------------------------------------------------

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A fresh folder inside the store to write into; it is removed at the end unless `add` took it.

        Raises:
            DiskFull: the disk became full inside the block.
        """
        with self.reading(), room(self.root):
            folder = self.root / "staging" / f"{self.lease.id}-{uuid.uuid4().hex}"
            fs.make_folder(folder)
        try:
            with room(self.root):
                yield folder
        finally:
            fs.discard_tree(folder)

    def add(self, kind: str, folder: Path) -> ArtifactRef:
        """Turn the files below `folder` (of `staging()`) into one immutable object and return its reference.

        An equal object that is already there and sound is kept; a damaged one is replaced.

        Raises:
            DiskFull, OSError: it could not be made durable; nothing was added.
        """
        ref = describe(kind, folder)
        final = layout.object_folder(self.root, ref.digest)
        with room(self.root), self.reading():
            self.lease.hold([ref.digest])
            if final.exists() and self._is_sound(ref):
                fs.keep(final, self.root)
                return ref
            if final.exists():
                self._set_aside(ref, final)
            try:
                fs.commit_tree(folder, final, self.root)
            except FileExistsError:
                self._check(ref)
                fs.keep(final, self.root)
            self._verified[ref.digest] = self._signature(ref)
        return ref

    def _set_aside(self, ref: ArtifactRef, final: Path) -> None:
        """Move a damaged object aside, unless another process has replaced it with a sound one meanwhile."""
        with locks.exclusive(self.root / "quarantine"):
            if final.exists() and not self._is_sound(ref):
                fs.move_away(final, self.root / "quarantine" / f"{ref.digest}-{uuid.uuid4().hex}")

    def check(self, ref: ArtifactRef) -> None:
        """Make sure that the object is here with the right bytes, and hold it against the collector.

        Files that have not changed since this process's last check (inode, size, both times) are not read again.

        Raises:
            ObjectMissing: the object or one of its files is not in this store.
            ObjectDamaged: a file's bytes do not match.
            DiskFull: there is no room to add it to the lease.
        """
        with room(self.root), self.reading():
            if self.writable:
                self.lease.hold([ref.digest])
            self._check(ref)

    def check_ahead(self, refs: Iterable[ArtifactRef]) -> None:
        """Check objects side by side, the largest first: `check` then finds them checked, and reads none again.

        What is missing or damaged is left to whoever asks for it.
        """

        def check(ref: ArtifactRef) -> None:
            with suppress(ClipsmithError):
                self.check(ref)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(check, sorted(refs, key=lambda ref: -ref.size)))

    def path(self, ref: ArtifactRef, member: str | None = None) -> Path:
        """The path of a verified object's folder, or of one of its files. For reading; never write there."""
        self.check(ref)
        folder = layout.object_folder(self.root, ref.digest)
        return folder if member is None else folder / ref.entry(member).path

    def _check(self, ref: ArtifactRef) -> None:
        signature = self._signature(ref)
        if self._verified.get(ref.digest) == signature:
            return
        for entry in ref.files:
            path = layout.object_folder(self.root, ref.digest) / entry.path
            if path.stat().st_size != entry.size or digest_file(path) != entry.sha256:
                raise ObjectDamaged(
                    f"{ref.kind} object {ref.digest[:12]} is damaged",
                    where=path,
                    expected=f"{entry.size} bytes with sha256 {entry.sha256[:12]}...",
                    fix=_MAKE_AGAIN,
                )
        self._verified[ref.digest] = signature

    def _is_sound(self, ref: ArtifactRef) -> bool:
        try:
            self._check(ref)
        except (ObjectDamaged, ObjectMissing):
            return False
        return True

    def _signature(self, ref: ArtifactRef) -> _Signature:
        rows = []
        for entry in ref.files:
            path = layout.object_folder(self.root, ref.digest) / entry.path
            try:
                stat = path.lstat()
            except FileNotFoundError as error:
                raise ObjectMissing(
                    f"{ref.kind} object {ref.digest[:12]} is not in this store", where=path, fix=_MAKE_AGAIN
                ) from error
            rows.append((entry.path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        return tuple(rows)

    # --- publishing ----------------------------------------------------------------------------------------

    def publish(self, model: str, identity: str, build: Callable[[int, int], Manifest]) -> tuple[Manifest, bool]:
        """Publish one release; the manifest appears last, in one step, once everything it refers to is durable.

        `build(version, sequence)` makes the manifest for the next version. If `model` has a release with this
        `identity` already, that one is returned instead. The flag says whether a new release was made.

        Raises:
            ObjectMissing, DiskFull, OSError: nothing was published.
        """
        with room(self.root), locks.exclusive(self.root / layout.PUBLISH_LOCK), self.reading():
            while True:
                self.refresh()
                known, _ = index.summaries(self.root, save=True)
                for summary in known:
                    if summary["model"] == model and summary["identity"] == identity:
                        manifest = self._load(model, summary["version"])
                        self.keep_record(self._manifest_path(manifest))
                        return manifest, False
                highest = max((summary["sequence"] for summary in known), default=0)
                sequence = min(1 + highest, limits.LARGEST_SEQUENCE)
                manifest = build(self._next_version(model), sequence)
                try:
                    self._commit(manifest, vouched=True)
                except FileExistsError:  # another host, which the lock above does not exclude, was faster
                    continue
                return manifest, True

    def _versions(self, model: str) -> list[int]:
        """The versions of a model that are taken, in order."""
        return layout.numbers(layout.manifest_path(self.root, model, 1).parent, retired=True)

    def _next_version(self, model: str) -> int:
        version = layout.next_number(self._versions(model))
        if version > limits.LARGEST_NUMBER:
            raise ReleaseConflict(
                f"{model} has no version left",
                where=self.root,
                expected=f"versions up to {limits.LARGEST_NUMBER:,}",
                fix="give another --store",
            )
        return version

    def refuse_leap(self, manifest: Manifest) -> None:
        """Refuse a release of another store whose version would use up the numbers of its model.

        Raises:
            ReleaseConflict: it is absurdly above the highest version of the model here.
        """
        known = self._versions(manifest.model)
        if layout.leaps(manifest.version, known):
            raise ReleaseConflict(
                f"{manifest.ref} has a version absurdly above the highest here, {layout.next_number(known) - 1}",
                where=self._manifest_path(manifest),
                expected=f"one at most {limits.LARGEST_LEAP:,} above it: versions end at {limits.LARGEST_NUMBER:,}",
                fix="ask whoever made it what it is; a release that is published anew gets the next version",
            )

    def insert(self, manifest: Manifest, *, came: bool = False) -> bool:
        """Put a release of another store here under its own version; return whether it was new.

        `came` records that it was not published here: see `artifacts.store.release_check`.

        Raises:
            ReleaseConflict: another release has, or had, this name and version here, or its version is absurdly high.
            ObjectMissing: an object of it is not here.
        """
        with room(self.root), self.reading():
            path = self._manifest_path(manifest)
            self.refuse_leap(manifest)
            self._refuse_retired(manifest)
            try:
                self._commit(manifest, came=came)
            except FileExistsError:
                if read_bytes(path, limits.MANIFEST) == manifest.to_bytes():
                    self.keep_record(path)
                    return False
                raise self.conflict(manifest) from None
            return True

    def conflict(self, manifest: Manifest) -> ReleaseConflict:
        """The error to raise if another release here has the name and version of `manifest`."""
        return ReleaseConflict(
            f"this store has another release named {manifest.ref}",
            where=self._manifest_path(manifest),
            expected=f"identity {manifest.identity[:12]}",
            fix="versions are immutable: keep the two in different stores",
        )

    def _refuse_retired(self, manifest: Manifest) -> None:
        """Refuse a retired version, unless it is the very release that was retired."""
        path = layout.tombstone_path(self.root, manifest.model, manifest.version)
        if path.exists() and tombstones.read(path).manifest != hashlib.sha256(manifest.to_bytes()).hexdigest():
            raise ReleaseConflict(
                f"another release named {manifest.ref} was retired here",
                where=path,
                expected=f"identity {manifest.identity[:12]}",
                fix="versions are never used again: keep the two in different stores",
            )

    def fetch(self, ref: ArtifactRef) -> None:
        """Fetch a missing object from the bucket; does nothing unless the store is shared."""

    def require_objects(self, manifest: Manifest) -> None:
        """Make sure that every file of a release is here with its size; bytes are checked when they are read.

        Raises:
            ObjectMissing.
        """
        for file in manifest.files:
            path = layout.object_folder(self.root, file.object) / file.member
            if not path.is_file() or path.stat().st_size != file.size:
                raise ObjectMissing(
                    f"{manifest.ref} refers to {file.path}, which is not in the store",
                    where=path,
                    expected=f"{file.size} bytes",
                    fix=_MAKE_AGAIN,
                )

    def prove(self, manifest: Manifest) -> None:
        """Make sure that every byte of a release is here as it was published, before signing or promoting it.

        All files are hashed again, as sizes and times can be forged. Call it inside `reading()`.

        Raises:
            ObjectMissing, ObjectDamaged.
        """
        self.require_objects(manifest)
        files = {(file.object, file.member): file for file in manifest.files}.values()

        def check(file: ReleaseFile) -> None:
            path = layout.object_folder(self.root, file.object) / file.member
            if path.is_symlink() or digest_file(path) != file.sha256:
                raise self._damaged(manifest, file)

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(check, sorted(files, key=lambda file: -file.size)))

    def _commit(self, manifest: Manifest, *, came: bool = False, vouched: bool = False) -> None:
        self.require_objects(manifest)
        for ref in manifest.objects():
            fs.keep(layout.object_folder(self.root, ref.digest), self.root)
        path, data = self._manifest_path(manifest), manifest.to_bytes()
        Manifest.from_bytes(data, where=path)  # never write a manifest that cannot be read back
        self.write_record(path, data, came=came, vouched=vouched)

    def write_record(self, path: Path, data: bytes, *, came: bool = False, vouched: bool = False) -> None:
        """Create a record durably and atomically, and enter it in the ledger; call it inside `reading()` or `alone()`.

        For a manifest, `came` says that the release was not published here, `vouched` that a run of this store made it.

        Raises:
            FileExistsError: `path` exists already; nothing was changed.
        """
        fs.durable_folder(path.parent, self.root)
        fs.write_exclusive(path, data, self.root / "staging")
        ledger.append(self.root, path, came=came, vouched=vouched)

    def keep_record(self, path: Path) -> None:
        """Make an existing record durable and enter it in the ledger: its writer may have been killed before that."""
        fs.keep(path, self.root)
        ledger.ensure(self.root, path)

    # --- the cache of steps (artifacts.store.results) ------------------------------------------------------

    def read_result(self, name: str) -> bytes | None:
        """What is kept under a name, unverified; None where nothing is. Raises: OSError: it is no plain file."""
        path = layout.result_path(self.root, name)
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link", str(path))
        try:
            return read_bytes(path, limits.RESULT)
        except FileNotFoundError:
            return None

    def write_result(self, name: str, data: bytes) -> None:
        """Keep `data` under a name, durably and whole, in the place of what is there. Raises: DiskFull."""
        path = layout.result_path(self.root, name)
        with room(self.root), self.reading():
            fs.durable_folder(path.parent, self.root)
            while True:
                try:
                    fs.write_exclusive(path, data, self.root / "staging")
                    return
                except FileExistsError:
                    fs.discard_tree(path)  # a run that is killed here has lost an entry of a cache

    # --- releases ------------------------------------------------------------------------------------------

    def releases(self) -> list[Manifest]:
        """Every release, parsed and verified, newest first; `summaries` is faster.

        Raises:
            DamagedManifest.
        """
        manifests = [index.load(self.root, path) for path in layout.manifests(self.root)]
        return sorted(manifests, key=lambda m: (m.sequence, m.model), reverse=True)

    def readable(self) -> list[Manifest]:
        """As `releases`, without those that cannot be read; `clipsmith releases` and `verify` report them."""
        manifests = []
        for path in layout.manifests(self.root):
            with suppress(DamagedManifest, FileNotFoundError):
                manifests.append(index.load(self.root, path))
        return sorted(manifests, key=lambda m: (m.sequence, m.model), reverse=True)

    def summaries(self) -> tuple[list[index.Summary], list[DamagedManifest]]:
        """A summary of every release, newest first, and the errors of the manifests that cannot be read."""
        return index.summaries(self.root, save=self.writable or os.access(self.root / "cache", os.W_OK))

    def find(self, reference: str) -> Manifest:
        """The release that `reference` names (see `artifacts.names.parse_reference`).

        Raises:
            BadName, ReleaseNotFound, AliasNotFound, AmbiguousReference, DamagedManifest, DamagedAlias.
        """
        wanted = parse_reference(reference)
        self.refresh()
        if wanted.model is not None and wanted.alias is not None:
            return self._behind(aliases.current(self.root, wanted.model, wanted.alias))
        if wanted.model is not None:
            folder = layout.manifest_path(self.root, wanted.model, 1).parent
            versions = layout.numbers(folder)
            if wanted.version in versions:
                return self._load(wanted.model, wanted.version or 0)
            if versions and wanted.version is None:
                return self._load(wanted.model, versions[-1])
        if wanted.digest_prefix is not None:
            return self._by_digest(wanted.digest_prefix)
        raise self._not_found(reference, wanted)

    def _behind(self, entry: aliases.AliasEntry) -> Manifest:
        manifest = self._load(entry.model, entry.version)
        if hashlib.sha256(manifest.to_bytes()).hexdigest() != entry.manifest:
            raise DamagedManifest(
                f"{entry.ref} is not the release that {entry.model}:{entry.alias} was promoted to",
                where=self._manifest_path(manifest),
                expected=f"a manifest with sha256 {entry.manifest[:12]}...",
                fix="run `clipsmith verify`, and promote a release that you trust",
            )
        return manifest

    def _by_digest(self, prefix: str) -> Manifest:
        known, _ = self.summaries()
        found = [summary for summary in known if summary["identity"].startswith(prefix)]
        if not found:
            raise self._not_found(prefix, Reference(digest_prefix=prefix))
        if len(found) > 1:
            raise AmbiguousReference(
                f"{len(found)} releases have an identity that starts with {prefix!r}",
                where=self.root,
                expected=f"one of: {', '.join(summary['ref'] for summary in found[:10])}",
                fix="give more digits, or model@version",
            )
        return self._load(found[0]["model"], found[0]["version"])

    def _not_found(self, reference: str, wanted: Reference) -> ReleaseNotFound:
        if wanted.model is not None and wanted.version is not None:
            tombstone = layout.tombstone_path(self.root, wanted.model, wanted.version)
            if tombstone.exists():
                return ReleaseNotFound(f"{reference} was retired by `clipsmith gc`", where=tombstone)
        known, _ = self.summaries()
        refs = ", ".join(summary["ref"] for summary in known[:10]) or "none"
        return ReleaseNotFound(
            f"no release {reference!r}", where=self.root, expected=f"one of: {refs}", fix="see `clipsmith releases`"
        )

    def _load(self, model: str, version: int) -> Manifest:
        try:
            return index.load(self.root, layout.manifest_path(self.root, model, version))
        except FileNotFoundError as error:
            raise ReleaseNotFound(f"{model}@{version} is not in this store", where=self.root) from error

    def _manifest_path(self, manifest: Manifest) -> Path:
        return layout.manifest_path(self.root, manifest.model, manifest.version)

    # --- reading releases ----------------------------------------------------------------------------------

    def read(self, manifest: Manifest, path: str) -> Path:
        """The verified path in the store of one file of a release; KeyError when the release has no such file."""
        for file in manifest.files:
            if file.path == path:
                with self.reading():
                    location = self._location(manifest, file)
                    if digest_file(location) != file.sha256:
                        raise self._damaged(manifest, file)
                return location
        raise KeyError(f"{manifest.ref} has no file {path!r}")

    def copy_out(self, manifest: Manifest, file: ReleaseFile, target: Path) -> None:
        """Copy one file of a release to `target`, and verify the copied bytes.

        Raises:
            ObjectMissing, ObjectDamaged.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._location(manifest, file), target)
        if digest_file(target) != file.sha256:
            raise self._damaged(manifest, file)

    def _location(self, manifest: Manifest, file: ReleaseFile) -> Path:
        location = layout.object_folder(self.root, file.object) / file.member
        if not location.is_file():
            raise ObjectMissing(f"{manifest.ref} has lost {file.path}", where=location, fix=_MAKE_AGAIN)
        return location

    def _damaged(self, manifest: Manifest, file: ReleaseFile) -> ObjectDamaged:
        location = layout.object_folder(self.root, file.object) / file.member
        return ObjectDamaged(
            f"{manifest.ref}: {file.path} is damaged",
            where=location,
            expected=f"{file.size} bytes with sha256 {file.sha256[:12]}...",
            fix=_MAKE_AGAIN,
        )


def describe(kind: str, folder: Path) -> ArtifactRef:
    """Compute the reference of the object that consists of the files below `folder`, hashing several files at once.

    Raises:
        StoreError: no files, or something that is not a plain file.
    """
    paths = list(fs.files_below(folder))
    strange = [path for path in paths if path.is_symlink() or not path.is_file()]
    if strange or not paths:
        what = "with something that is not a plain file" if strange else "without files"
        raise StoreError(f"a {kind} object {what}", where=strange[0] if strange else folder)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        digests = list(pool.map(digest_file, paths))
    return ArtifactRef.of(
        kind,
        [
            FileEntry(path=path.relative_to(folder).as_posix(), sha256=digest, size=path.stat().st_size)
            for path, digest in zip(paths, digests, strict=True)
        ],
    )


@contextmanager
def room(root: Path) -> Iterator[None]:
    """Turn every error that means a full disk, of whatever library, into DiskFull."""
    try:
        yield
    except ClipsmithError:
        raise
    except Exception as error:
        if not fs.is_full(error):
            raise
        raise DiskFull(
            "the disk is full",
            where=root,
            expected=f"more than the {megabytes(fs.free_bytes(root), 0)} that are free",
            fix="free space (`clipsmith gc` removes what no release needs), or give another --store; then run again: "
            "finished steps are kept",
        ) from error


def look_into(root: Path | str, *, writable: bool) -> tuple[Path, str]:
    """The absolute path and the identity of the store in `root`; with `writable`, a missing store is made, empty.

    Raises:
        NotAStore, StoreReadOnly, UnsupportedFileSystem, StoreOpenToOthers: see `Store.open`.
    """
    root = Path(root).expanduser().absolute()
    _refuse_path(root)
    if writable:
        _prepare(root)
    header = root / layout.HEADER
    try:
        content = parse(_Header, read_bytes(header), where=header, error=DamagedHeader, what="the store's header")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotAStore(
            "there is no clipsmith store here", where=root, fix="run `clipsmith optimize`, or give --store"
        ) from error
    except OSError as error:
        raise DamagedHeader(f"the store's header cannot be read: {error}", where=header) from error
    keep_others_out(root)
    return root, content.id


def _refuse_path(root: Path) -> None:
    """Refuse a path that is too long for any file system, before it looks like a damaged or read-only store, and one
    that is not UTF-8, at which pyarrow reads and writes nothing."""
    if len(os.fsencode(root)) > _LONGEST_PATH or max(len(os.fsencode(part)) for part in root.parts) > _LONGEST_NAME:
        raise NotAStore(
            f"the path of the store is too long: {len(os.fsencode(root))} bytes",
            where=f"{str(root)[:60]}...",
            expected=f"at most {_LONGEST_NAME} bytes between two slashes, and {_LONGEST_PATH} in all",
            fix="correct --store or CLIPSMITH_STORE",
        )
    try:
        str(root).encode()
    except UnicodeEncodeError as error:
        raise NotAStore(
            "the path of the store is not UTF-8",
            where=root,
            expected="names of folders in UTF-8",
            fix="rename the folder, or give another --store",
        ) from error


def _prepare(root: Path) -> None:
    """Make an empty store if there is none, and check by writing that the store can be written."""
    try:
        # In this order: another process may be making the store, and put the header there, and more after it.
        if _strangers(root) and not (root / layout.HEADER).exists():
            raise NotAStore("the folder holds something else", where=root, fix="give an empty or new folder")
        _refuse_read_only(root)
        refuse_network(root)
        if not (root / layout.HEADER).exists():  # if there is one, the folders are durable
            fs.durable_folder(root, next(path for path in root.parents if path.exists()))
        for folder in layout.FOLDERS:
            if not (root / folder).is_dir() or not (root / layout.HEADER).exists():
                fs.durable_folder(root / folder, root)
        if not (root / layout.HEADER).exists():
            _write_header(root)
        keep_private(root / "staging")
        if not (root / layout.PUBLISH_LOCK).exists():  # do not touch it: its time says since when it is held
            (root / layout.PUBLISH_LOCK).touch(mode=0o644)
        probe = root / "staging" / f"probe-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink(missing_ok=True)  # a collector may have been faster
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise NotAStore(
                "a store is a folder, and a file is in its place", where=root, fix="give another --store"
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                "there is no room to make the store", where=root, fix="free space, or give another --store"
            ) from error
        raise StoreReadOnly(
            f"the store cannot be written: {error.strerror or error}",
            where=root,
            fix="change the folder's permissions, or give another --store",
        ) from error


def _strangers(root: Path) -> bool:
    """Whether there is a folder with names in it that a store without a header does not have."""
    return root.exists() and any(path.name not in layout.FOLDERS for path in root.iterdir())


def _write_header(root: Path) -> None:
    try:
        fs.write_exclusive(root / layout.HEADER, dump(_Header(id=uuid.uuid4().hex)), root / "staging")
    except (FileExistsError, FileNotFoundError):  # another process was first, and may have removed our temporary file
        if not (root / layout.HEADER).exists():
            raise
        fs.flush_folder(root)  # the other process's header is used


def _refuse_read_only(root: Path) -> None:
    """Refuse a folder whose permission bits are read-only: root could write it all the same."""
    existing = next(path for path in (root, *root.parents) if path.exists())
    if existing == root and not existing.stat().st_mode & 0o222:
        raise StoreReadOnly("the store is read-only", where=root, fix="make it writable or give another --store")


_LONGEST_NAME, _LONGEST_PATH = 255, 1000
"""In bytes: the file systems' limit of a name, and of a path, less room for the paths inside the store."""
_active: ContextVar[Store | None] = ContextVar("clipsmith_store", default=None)


@contextmanager
def activate(store: Store) -> Iterator[Store]:
    """Make `store` the active one, in which references are looked up; what is used is held until the block ends."""
    token = _active.set(store)
    try:
        yield store
    finally:
        _active.reset(token)
        store.close()


def active_store() -> Store:
    """The store of the running flow; StoreError outside `activate`."""
    store = _active.get()
    if store is None:
        raise StoreError("no store is active", fix="run inside `with activate(open_store(...))`")
    return store
