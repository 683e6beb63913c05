"""A bucket that several hosts share, on S3 or in a folder that all of them see: what their stores have in common.

It has a store's layout, without what belongs to one host: bucket.json (format and identity), objects/, releases/,
signatures/, aliases/, and cache/results/. A record is created where there is none, which only one host can do: that is
how hosts agree on versions and on what an alias points to. Nothing in a bucket is ever changed or removed by clipsmith
but entries of the cache, which give way to newer ones.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from artifacts.copies import replica
from artifacts.copies.remote import Remote
from artifacts.errors import ConfigError, DamagedManifest, DamagedSignature, ReleaseDiffers, ReplicaError
from artifacts.manifest import Manifest
from artifacts.models import Frozen
from artifacts.records import dump, parse
from artifacts.refs import ArtifactRef
from artifacts.release.coherence import check_manifest
from artifacts.store import layout
from artifacts.store.aliases import AliasEntry
from artifacts.store.signatures import SignatureRecord, parse_signature
from artifacts.store.store import BUCKET_VARIABLE, Store
from artifacts.store.tombstones import Tombstone

_Record = Manifest | Tombstone | SignatureRecord | AliasEntry
_WORKERS = 8
_HERE = Path()
_NAME = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
_NUMBER = r"[1-9][0-9]{0,8}"
_KINDS: dict[str, type[_Record]] = {
    rf"releases/{_NAME}/{_NUMBER}\.json": Manifest,
    rf"releases/{_NAME}/{_NUMBER}\.retired": Tombstone,
    rf"signatures/{_NAME}/{_NUMBER}/{_NUMBER}\.json": SignatureRecord,
    rf"aliases/{_NAME}/{_NAME}/{_NUMBER}\.json": AliasEntry,
}


class BucketHeader(Frozen):
    """`bucket.json`, in the bucket and, as a copy, in every store that is a working copy of it."""

    format: Literal[1] = 1
    id: str


class Bucket:
    """The bucket at `url`; made when there is none yet.

    Raises:
        ConfigError: the URL holds credentials, or names something on which hosts cannot agree.
        ReplicaError: the bucket cannot be reached or used.
    """

    def __init__(self, url: str) -> None:
        self._remote = Remote(url, "bucket")
        self.url = self._remote.url
        if not self._remote.is_exclusive:
            raise ConfigError(
                "this kind of storage cannot keep two hosts from writing the same file",
                where=self.url,
                expected=f"{BUCKET_VARIABLE}=s3://bucket/folder, or a folder that all hosts see",
            )
        if self._remote.holds_a_store(layout.HEADER):
            fix = f"give another folder in {BUCKET_VARIABLE}: each host has its store on its own disk"
            raise ReplicaError("that folder is a store, not a bucket that stores share", where=self.url, fix=fix)
        self.header = self._header()

    def _header(self) -> BucketHeader:
        data = self._remote.read(layout.BUCKET)
        if data is None:
            self._remote.create(layout.BUCKET, dump(BucketHeader(id=uuid.uuid4().hex)))
            data = self._remote.read(layout.BUCKET) or b""  # whoever was first
        where = self._remote.where(layout.BUCKET)
        return parse(BucketHeader, data, where=where, error=ReplicaError, what="the bucket's header")

    # --- objects -------------------------------------------------------------------------------------------

    def send(self, store: Store, ref: ArtifactRef, *, replace: bool) -> None:
        """Copy what is missing of an object into the bucket, or with `replace` all of it, and read it back."""
        replica.send_object(store, self._remote, ref, replace=replace)

    def fetch(self, store: Store, ref: ArtifactRef) -> None:
        """Copy an object into the store, verified. Raises: ReplicaError, also when it is not in the bucket."""
        replica.fetch_object(store, self._remote, ref)

    def holds(self, ref: ArtifactRef) -> bool:
        """Whether every file of an object is there with its size."""
        return replica.is_whole(self._remote, ref)

    # --- records -------------------------------------------------------------------------------------------

    def names(self, folder: str) -> list[str]:
        """The records below a folder, in the order in which they may be brought in."""
        return in_order(f"{folder}/{name}" for name in self._remote.sizes(folder))

    def read_each(self, paths: Iterable[str]) -> list[tuple[str, bytes | ReplicaError]]:
        """Records, each verified against its own digest and place; instead of one that is not what was written, what is
        wrong with it.

        Raises:
            ReplicaError: the bucket cannot be read.
        """
        with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            return list(pool.map(lambda path: (path, self._verified(path)), paths))

    def _verified(self, path: str) -> bytes | ReplicaError:
        data, where, kind = self._remote.read(path) or b"", self._remote.where(path), _kind(path)
        assert kind is not None, path
        try:
            record = _parsed(kind, data, where)
        except ReplicaError as error:
            return error
        if _place(record) != path:
            return ReplicaError("a record in the bucket is not in its place", where=where, expected=_place(record))
        return data

    def claim(self, path: str, data: bytes) -> bool:
        """Create a record; False when another one is there, True also when the very same is."""
        return self._remote.create(path, data) or self._remote.read(path) == data

    # --- the cache of steps ----------------------------------------------------------------------------------

    def read_result(self, name: str) -> bytes | None:
        """What is kept under a name, unverified; None where nothing is. Raises: ReplicaError."""
        return self._remote.read(layout.result_path(_HERE, name).as_posix())

    def write_result(self, name: str, data: bytes) -> None:
        """Keep `data` under a name, in the place of what is there. Raises: ReplicaError."""
        self._remote.upload(layout.result_path(_HERE, name).as_posix(), len(data), lambda: [data])

    def where(self, path: str) -> str:
        """How messages name a file in the bucket."""
        return self._remote.where(path)


def _parsed(kind: type[_Record], data: bytes, where: str) -> _Record:
    try:
        if kind is Manifest:
            manifest = Manifest.from_bytes(data, where=where)
            check_manifest(manifest)
            return manifest
        if kind is SignatureRecord:
            return parse_signature(data, where)
    except (DamagedManifest, DamagedSignature, ReleaseDiffers) as error:
        raise ReplicaError(
            f"a record in the bucket cannot be used: {error.what}", where=where, expected=error.expected, fix=error.fix
        ) from error
    return parse(kind, data, where=where, error=ReplicaError, what="a record in the bucket")


def _kind(path: str) -> type[_Record] | None:
    """The class of the record that has this path; None for any other path, such as one that leads elsewhere."""
    if ".." in path:
        return None
    return next((kind for pattern, kind in _KINDS.items() if re.fullmatch(pattern, path)), None)


def _place(record: _Record) -> str:
    match record:
        case Manifest():
            path = layout.manifest_path(_HERE, record.model, record.version)
        case Tombstone():
            path = layout.tombstone_path(_HERE, record.model, record.version)
        case SignatureRecord():
            path = layout.signature_folder(_HERE, record.model, record.version) / f"{record.number}.json"
        case AliasEntry():
            path = layout.alias_folder(_HERE, record.model, record.alias) / f"{record.number}.json"
    return path.as_posix()


def in_order(paths: Iterable[str]) -> list[str]:
    """Those of the paths that belong to records, sorted by number."""
    return sorted((path for path in paths if _kind(path)), key=_by_number)


def _by_number(path: str) -> tuple[str, int, str]:
    folder, _, name = path.rpartition("/")
    return folder, int(name.partition(".")[0]), name
