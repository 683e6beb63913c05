"""A store that is one host's working copy of a bucket (`artifacts.copies.bucket`), which other hosts share.

Objects are sent to the bucket when they are added to the store, and fetched from it when they are needed. A record (a
manifest, an alias's entry, a tombstone, a signature) is created in the bucket first, which decides who gets a version
or moves an alias; a process that is killed before that has changed nothing visible. Then it is put into this store.

The cache of steps is read from the bucket, and each entry is verified. What other hosts have put there is believed as
their releases are: a release that is made of it is not vouched for (`artifacts.store.signatures.vouched`).

The step lock is a host's own: two hosts that need one step at once both compute it, and add equal objects.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from artifacts import fs, limits
from artifacts.copies.bucket import Bucket, BucketHeader, in_order
from artifacts.errors import ConfigError, DamagedHeader, ObjectDamaged, ObjectMissing, ReleaseConflict, ReplicaError
from artifacts.manifest import Manifest, ReleaseFile
from artifacts.records import dump, parse
from artifacts.refs import ArtifactRef
from artifacts.store import layout, results
from artifacts.store.store import BUCKET_VARIABLE, Store

_log = logging.getLogger(__name__)
_FOLDERS = ("releases", "signatures", "aliases")  # in this order, so that no pointer is here before its target


class SharedStore(Store):
    """A working copy of a bucket; its identity is the bucket's, so that steps have the same cache keys on all hosts."""

    def __init__(self, root: Path, bucket: Bucket) -> None:
        super().__init__(root, bucket.header.id, writable=True)
        self.bucket = bucket
        self._sent: set[str] = set()
        self._suspect: set[str] = set()
        self._unusable: dict[str, ReplicaError] = {}
        self._foreign: set[str] = set()

    @classmethod
    def join(cls, root: Path, url: str) -> SharedStore:
        """Make the store in `root` a working copy of the bucket.

        The bucket gets what the store has so far, and the store gets what others have published.

        Raises:
            ConfigError: the store is another bucket's working copy, or the URL is not one for a bucket.
            ReleaseConflict: the store and the bucket have different records of one name.
            ReplicaError: the bucket cannot be reached or used.
        """
        store = cls(root, Bucket(url))
        mark = root / layout.BUCKET
        if not mark.exists():
            store._offer_all()
            with suppress(FileExistsError):  # another process of this host was faster
                fs.write_exclusive(mark, dump(store.bucket.header), root / "staging")
        mine = parse(BucketHeader, mark.read_bytes(), where=mark, error=DamagedHeader, what="the mark of the bucket")
        if mine != store.bucket.header:
            raise ConfigError(
                f"the store is the working copy of another bucket than {store.bucket.url}",
                where=mark,
                fix=f"give another folder as store, or set {BUCKET_VARIABLE} to its own bucket",
            )
        store.refresh()
        return store

    def _offer_all(self) -> None:
        """Send what the store held before it was shared to the bucket; called again after a crash, it goes on."""
        with self.reading():
            for manifest in reversed(self.releases()):
                self._send_objects(manifest)
            for folder in _FOLDERS:
                for name in in_order(self._name(path) for path in (self.root / folder).rglob("*.*")):
                    if not self.bucket.claim(name, (self.root / name).read_bytes()):
                        raise ReleaseConflict(
                            f"the store and {self.bucket.url} have different histories",
                            where=self.root / name,
                            expected=f"the bytes of {self.bucket.where(name)}",
                            fix="give an empty folder as this host's store; `clipsmith push` and `pull` move releases",
                        )

    # --- records -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Bring in the records that other hosts have put into the bucket; their objects come when they are needed.

        A release that clipsmith did not write, or whose version is absurdly high, is left out with a warning; the
        others still come in.

        Raises:
            ReplicaError: the bucket cannot be read, or another record in it is damaged.
        """
        listed = {folder: self.bucket.names(folder) for folder in reversed(_FOLDERS)}
        retired = {name for name in listed["releases"] if name.endswith(".retired")}
        for folder in _FOLDERS:
            lacking = [name for name in listed[folder] if self._lacks(name, retired)]
            with self.reading():
                for name, data in self.bucket.read_each(lacking):
                    is_release = folder == "releases" and name.endswith(".json")
                    found = (self._refused(name) if is_release else None) or data
                    if isinstance(found, bytes):
                        self._keep(self.root / name, found, came=is_release)
                    elif is_release:
                        self._leave_out(name, found)
                    else:
                        raise found

    def _refused(self, name: str) -> ReplicaError | None:
        """The error if a release of this version must not come in, else None."""
        _, model, file = Path(name).parts
        if not layout.leaps(int(Path(file).stem), self._versions(model)):
            return None
        return ReplicaError(
            f"a version in the bucket is absurdly above the highest here of {model}",
            where=self.bucket.where(name),
            expected=f"one at most {limits.LARGEST_LEAP:,} above it",
            fix="find out who put it there, and remove it",
        )

    def _leave_out(self, name: str, error: ReplicaError) -> None:
        self._unusable[name] = error
        _log.warning("left out %s: %s", error.where, error.what)

    def _versions(self, model: str) -> list[int]:
        """As in any store, and also the versions of releases in the bucket that were left out."""
        places = (Path(name) for name in self._unusable)
        taken = (int(place.stem) for place in places if place.parent.name == model)
        return sorted({*super()._versions(model), *taken})

    def _lacks(self, name: str, retired: set[str]) -> bool:
        """Whether a record is missing here; of a retired release only the tombstone is needed."""
        parts = Path(name).parts
        version = parts[2].removesuffix(".json")
        gone = parts[0] in ("releases", "signatures") and f"releases/{parts[1]}/{version}.retired" in retired
        return not gone and name not in self._unusable and not (self.root / name).exists()

    def write_record(self, path: Path, data: bytes, *, came: bool = False, vouched: bool = False) -> None:
        """Create a record, in the bucket first, which decides between hosts that create it at once.

        Raises:
            FileExistsError: another host was first, and its record is here now.
            ReplicaError: the bucket cannot be reached; nothing was done.
        """
        name = self._name(path)
        if self.bucket.claim(name, data):
            self._keep(path, data, came=came, vouched=vouched)
            return
        ((_, theirs),) = self.bucket.read_each([name])
        if isinstance(theirs, ReplicaError):
            if name.startswith("releases/") and path.suffix == ".json":
                self._leave_out(name, theirs)
                raise FileExistsError(path)
            raise theirs
        self._keep(path, theirs, came=name.startswith("releases/") and path.suffix == ".json")
        if path.suffix != ".retired":  # if another host has retired the release, that is as good
            raise FileExistsError(path)

    def _keep(self, path: Path, data: bytes, *, came: bool = False, vouched: bool = False) -> None:
        """Write a record of the bucket into this store, unless it is there already."""
        try:
            super().write_record(path, data, came=came, vouched=vouched)
        except FileExistsError:
            self.keep_record(path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    # --- the cache of steps --------------------------------------------------------------------------------

    def read_result(self, name: str) -> bytes | None:
        """As in any store, from the bucket; it is noted what this host has not put there. Raises: ReplicaError."""
        data, mine = self.bucket.read_result(name), None
        with suppress(OSError):
            mine = super().read_result(name)
        if data is not None and data != mine:
            self._foreign.add(name)
        return data

    def write_result(self, name: str, data: bytes) -> None:
        """As in any store, and in the bucket. Raises: ReplicaError."""
        super().write_result(name, data)
        self.bucket.write_result(name, data)
        self._foreign.discard(name)

    # --- objects -------------------------------------------------------------------------------------------

    def add(self, kind: str, folder: Path) -> ArtifactRef:
        """As in any store, then also in the bucket. Raises: ReplicaError: the bucket cannot be written."""
        ref = super().add(kind, folder)
        self._send(ref)
        return ref

    def _send(self, ref: ArtifactRef) -> None:
        if ref.digest not in self._sent:
            self.bucket.send(self, ref, replace=ref.digest in self._suspect)
            self._sent.add(ref.digest)

    def _send_objects(self, manifest: Manifest) -> None:
        for ref in manifest.objects():
            self._send(ref)

    def _commit(self, manifest: Manifest, *, came: bool = False, vouched: bool = False) -> None:
        self.require_objects(manifest)
        self._send_objects(manifest)
        ours = not any(map(results.is_of_step, self._foreign))
        super()._commit(manifest, came=came, vouched=vouched and ours)

    def check(self, ref: ArtifactRef) -> None:
        """As in any store; an object that is missing or damaged here is fetched from the bucket if it is there.

        Raises:
            ObjectMissing, ObjectDamaged: it is not sound here, and the bucket does not have it.
            ReplicaError: it is damaged in the bucket, or the bucket cannot be reached.
        """
        try:
            super().check(ref)
        except (ObjectMissing, ObjectDamaged):
            if not self.bucket.holds(ref):
                raise
            self._fetch(ref)
            super().check(ref)

    def fetch(self, ref: ArtifactRef) -> None:
        """Fetch an object from the bucket if the store has nothing of it and the bucket has it."""
        if not layout.object_folder(self.root, ref.digest).exists() and self.bucket.holds(ref):
            self._fetch(ref)

    def _fetch(self, ref: ArtifactRef) -> None:
        self._sent.add(ref.digest)  # it came from the bucket, so it need not be sent
        try:
            self.bucket.fetch(self, ref)
        except ReplicaError:
            self._sent.discard(ref.digest)
            self._suspect.add(ref.digest)  # once it is made again, it replaces the one in the bucket
            raise

    def require_objects(self, manifest: Manifest) -> None:
        """As in any store, after missing objects have been fetched from the bucket."""
        for ref in manifest.objects():
            self.fetch(ref)
        super().require_objects(manifest)

    def _location(self, manifest: Manifest, file: ReleaseFile) -> Path:
        for ref in manifest.objects():
            if ref.digest == file.object:
                self.fetch(ref)
        return super()._location(manifest, file)
