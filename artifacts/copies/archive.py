"""A release as one portable file: a plain tar file that any tar program lists. The release determines its every byte.

    clipsmith-release.json               what this is, and its format
    manifest.json                        the release's manifest as the store has it
    objects/<digest>/<member>            every file of every object once, in the order of digests and paths
    signatures/<n>.json                  its signatures, if it has any

`unpack` accepts only the archive that `pack` would write: the manifest determines members, their order, headers and
padding, so no name, link or attribute that an archive chooses ever reaches the file system.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tarfile import BLOCKSIZE, PAX_FORMAT, RECORDSIZE, REGTYPE, HeaderError, TarInfo
from typing import IO, Literal

from artifacts import fs, limits, places
from artifacts.copies import transfer
from artifacts.errors import BadArchive, DamagedManifest, DamagedSignature, ExportFailed, ExportTargetExists
from artifacts.limits import Limits
from artifacts.manifest import Manifest
from artifacts.models import Frozen
from artifacts.records import dump, load_strictly
from artifacts.refs import ArtifactRef, FileEntry
from artifacts.store import signatures
from artifacts.store.policy import read_policy
from artifacts.store.signatures import SignatureRecord
from artifacts.store.store import Store

_HEADER = "clipsmith-release.json"
_SIGNATURE = re.compile(rf"{places.SIGNATURES}/([1-9][0-9]{{0,8}})\.json")
_CHUNK = 1 << 20
_AGAIN = "copy or download the archive again, or pack the release again from a sound store"
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
}


class _Header(Frozen):
    content: Literal["clipsmith release"] = "clipsmith release"
    format: Literal[1] = 1


# --- packing -----------------------------------------------------------------------------------------------


def pack(store: Store, manifest: Manifest, file: Path) -> None:
    """Write a release as one archive; every file is verified while it is copied. Equal releases make equal bytes.

    Raises:
        ExportTargetExists: `file` exists.
        ExportFailed: it cannot be written.
        ObjectMissing, ObjectDamaged, DamagedSignature: the release is not sound here.
    """
    file = file.expanduser().absolute()
    if file.exists() or file.is_symlink():
        raise ExportTargetExists("the archive exists", where=file, fix="give a file that does not exist")
    scratch = file.with_name(f".{file.name[:200]}.{uuid.uuid4().hex}")
    try:
        with store.reading(), scratch.open("xb") as out:
            _write(store, manifest, out)
        fs.flush_file(scratch)
        fs.rename(scratch, file)
        fs.flush_folder(file.parent)
    except OSError as error:
        raise ExportFailed(
            f"the archive cannot be written: {error.strerror or error}",
            where=file,
            fix="give a file in a folder that can be written and has room",
        ) from error
    finally:
        fs.unlink(scratch)


def _write(store: Store, manifest: Manifest, out: IO[bytes]) -> None:
    records = signatures.signatures(store.root, manifest.model, manifest.version)
    _write_bytes(out, _HEADER, dump(_Header()))
    _write_bytes(out, places.MANIFEST, manifest.to_bytes())
    for ref in _ordered(manifest):
        store.fetch(ref)
        for entry in ref.files:
            out.write(_tar_header(_member(ref, entry), entry.size))
            for chunk in transfer.verified_chunks(store, manifest.ref, ref, entry):
                out.write(chunk)
            out.write(_padding(entry.size))
    for record in records:
        _write_bytes(out, _signature(record.number), dump(record))
    out.write(_end(out.tell()))


def _write_bytes(out: IO[bytes], name: str, data: bytes) -> None:
    out.write(_tar_header(name, len(data)) + data + _padding(len(data)))


# --- unpacking ---------------------------------------------------------------------------------------------


def unpack(store: Store, file: Path) -> tuple[Manifest, bool]:
    """Put a packed release into the store; return its manifest and whether it was new there.

    Everything is verified before the release appears in the store.

    Raises:
        BadArchive: the file is not, byte for byte, what `pack` writes.
        ReleaseConflict: another release has this name and version here.
        ReleaseDiffers: its identity, tables or results do not follow from what it holds.
        TableError: a file in it is not what clipsmith writes, or would take more room than ours do.
        SignatureRequired: the store's policy asks for a signature that the release does not have.
        ConfigError: the policy cannot be understood.
        DiskFull: there is no room.
    """
    file = file.expanduser().absolute()
    read_policy(store.root)
    with _opened(file) as archive:
        archive.check_header()
        manifest = archive.manifest()
        refs = archive.objects(manifest)
        transfer.refuse(store, manifest)
        for ref in refs:
            _unpack_object(store, archive, ref)
        records = list(archive.signatures(manifest))
        new, _ = transfer.insert(store, manifest, records)
    return manifest, new


@contextmanager
def _opened(file: Path) -> Iterator[_Archive]:
    try:
        stream = file.open("rb")
    except OSError as error:
        raise BadArchive(f"the archive cannot be opened: {error.strerror}", where=file) from error
    with stream:
        yield _Archive(stream, file)


def _unpack_object(store: Store, archive: _Archive, ref: ArtifactRef) -> None:
    if transfer.has_object(store, ref):
        for entry in ref.files:
            archive.read_file(ref, entry, lambda _: None)
        return
    with store.staging() as folder:
        for entry in ref.files:
            with archive.creating(folder, entry) as out:
                archive.read_file(ref, entry, out.write)
        if store.add(ref.kind, folder).digest != ref.digest:
            raise archive.bad(f"the files of {ref.kind} object {ref.digest[:12]} are not the object")


class _Archive:
    """An archive, read once from front to back; nothing that it says is trusted."""

    def __init__(self, stream: IO[bytes], file: Path) -> None:
        self._stream = stream
        self._file = file
        self._position = 0

    def check_header(self) -> None:
        """Make sure that this is an archive of ours, of a format that is known."""
        try:
            data = self._record(_HEADER, limits.RECORD)
        except BadArchive as error:
            raise self.bad(f"not an archive that `clipsmith pack` wrote: {error.what}") from error
        expected = dump(_Header())
        if data == expected:
            return
        try:
            found = load_strictly(data)["format"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self.bad("the archive's header cannot be read") from error
        if found == _Header().format:
            raise self.bad("the archive's header is damaged")
        raise BadArchive(
            f"an archive of format {found!r:.40}",
            where=self._file,
            expected=f"format {_Header().format}",
            fix="unpack it with the version of clipsmith that packed it, or a later one",
        )

    def manifest(self) -> Manifest:
        """The release's manifest."""
        try:
            return Manifest.from_bytes(self._record(places.MANIFEST, limits.MANIFEST), where=self._file)
        except DamagedManifest as error:
            raise self.bad(f"its manifest is damaged: {error.what}") from error

    def objects(self, manifest: Manifest) -> list[ArtifactRef]:
        """The objects in the order in which they come."""
        try:
            return _ordered(manifest)
        except DamagedManifest as error:
            raise self.bad(error.what) from error

    def read_file(self, ref: ArtifactRef, entry: FileEntry, sink: Callable[[bytes], object]) -> None:
        """Hand the bytes of the next member, which must be this file, to `sink`."""
        name = _member(ref, entry)
        self._expect_header(name, entry.size)
        digest, left = hashlib.sha256(), entry.size
        while left > 0:
            chunk = self._exactly(min(left, _CHUNK))
            digest.update(chunk)
            sink(chunk)
            left -= len(chunk)
        self._expect_padding(name, entry.size)
        if digest.hexdigest() != entry.sha256:
            raise self.bad(f"{name} is damaged", f"sha256 {entry.sha256[:12]}...")

    @contextmanager
    def creating(self, folder: Path, entry: FileEntry) -> Iterator[IO[bytes]]:
        """A new file of an object below `folder`."""
        path = folder / entry.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            out = path.open("xb")
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:  # "a" and "a/b" in one object
            raise self.bad(f"the manifest lists {entry.path}, which cannot be a file beside the others") from error
        with out:
            yield out

    def signatures(self, manifest: Manifest) -> Iterator[SignatureRecord]:
        """The signatures, and nothing after them."""
        number = 0
        while (block := self._peek()) is not None:
            info = self._parse(block)
            match = _SIGNATURE.fullmatch(info.name)
            if match is None or int(match[1]) <= number:
                raise self.bad(f"{_describe(info)}, which the manifest does not list")
            number = int(match[1])
            data = self._record(_signature(number), limits.SIGNATURE, block)
            try:
                yield transfer.parse_signature(data, manifest, f"{self._file}: {info.name}")
            except DamagedSignature as error:
                raise self.bad(error.what) from error

    def _peek(self) -> bytes | None:
        """The next block, or None at the end, where everything that follows has been checked."""
        start = self._position
        block = self._exactly(BLOCKSIZE)
        if any(block):
            return block
        end = _end(start)
        if self._exactly(len(end) - BLOCKSIZE) != end[BLOCKSIZE:] or self._stream.read(1):
            raise self.bad("there is something after the archive's end")
        return None

    def _record(self, name: str, limit: Limits, block: bytes | None = None) -> bytes:
        """The bytes of the next member, which must have this name and may have any size up to the limit."""
        block = self._exactly(BLOCKSIZE) if block is None else block
        info = self._parse(block)
        if not info.size > 0 or block != _tar_header(name, info.size):
            raise self.bad(f"{_describe(info)} where {name} should be")
        if info.size > limit.bytes:
            raise self.bad(f"{_describe(info)}", f"at most {limit.bytes:,} bytes")
        data = self._exactly(info.size)
        self._expect_padding(name, info.size)
        return data

    def _expect_header(self, name: str, size: int) -> None:
        expected = _tar_header(name, size)
        found = self._exactly(BLOCKSIZE)
        if found != expected[:BLOCKSIZE] or self._exactly(len(expected) - BLOCKSIZE) != expected[BLOCKSIZE:]:
            raise self.bad(f"{_describe(self._parse(found))} where {name} of {size} bytes should be")

    def _expect_padding(self, name: str, size: int) -> None:
        padding = _padding(size)
        if self._exactly(len(padding)) != padding:
            raise self.bad(f"there is something after the end of {name}")

    def _parse(self, block: bytes) -> TarInfo:
        try:
            return TarInfo.frombuf(block, "utf-8", "backslashreplace")
        except HeaderError as error:
            raise self.bad(f"no tar header at byte {self._position - BLOCKSIZE}: {error}") from error

    def _exactly(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except OSError as error:
            raise self.bad(f"the archive cannot be read: {error}") from error
        self._position += len(data)
        if len(data) != size:
            raise self.bad(f"the archive ends at byte {self._position}, too early")
        return data

    def bad(self, what: str, expected: str = "an archive as `clipsmith pack` wrote it") -> BadArchive:
        """The error to raise."""
        return BadArchive(what, where=self._file, expected=expected, fix=_AGAIN)


def _describe(info: TarInfo) -> str:
    kind = "a file" if info.type == REGTYPE else _KINDS.get(info.type, f"an entry of type {info.type!r}")
    return f"{kind} named {info.name[:120]!r} of {info.size} bytes"


# --- the format --------------------------------------------------------------------------------------------


def _ordered(manifest: Manifest) -> list[ArtifactRef]:
    return sorted(manifest.objects(), key=lambda ref: ref.digest)


def _member(ref: ArtifactRef, entry: FileEntry) -> str:
    return f"objects/{ref.digest}/{entry.path}"


def _signature(number: int) -> str:
    return f"{places.SIGNATURES}/{number}.json"


def _tar_header(name: str, size: int) -> bytes:
    """The header before a member's bytes, without times, owners or permissions of the machine that packs."""
    info = TarInfo(name)
    info.size, info.mode = size, 0o444
    return info.tobuf(format=PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCKSIZE)


def _end(position: int) -> bytes:
    """The end of a tar file: two empty blocks, and more until the size is a multiple of tar's record size."""
    return bytes(2 * BLOCKSIZE + -(position + 2 * BLOCKSIZE) % RECORDSIZE)
