"""Tar files of samples, as the webdataset library writes them; members are read in place, at their offsets.

A sample is all members of one shard with the same key, in any order: `s0000003.png` and `s0000003.cls` are two parts of
`s0000003`. Nothing is extracted, so the members' paths, owners and modes have no effect.
"""

from __future__ import annotations

import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from artifacts.errors import DataError
from tasks.data import limits
from tasks.data.rows import too_much, unreadable
from tasks.data.shard_names import ENDINGS, Kind, MemberName, is_left_by_macos, take_apart
from tasks.data.unpacked import Unpacked

MAX_PART_BYTES, MAX_TEXT_BYTES = limits.PICTURE_BYTES, limits.TEXT_BYTES
_BLOCK = 512  # bytes: headers and contents of a tar file start at multiples of it
_TAIL = 1 << 20  # bytes of padding read at a time
_COMPRESSED = {
    b"BZh": ("bzip2", "bunzip2", ".bz2"),
    b"\xfd7zXZ": ("xz", "unxz", ".xz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd", ".zst"),
}
COMPRESSED_SUFFIXES = (*(f".tar{suffix}" for _, _, suffix in _COMPRESSED.values()), ".tbz2", ".txz")
_NO_TAR = {
    b"version https://git-lfs": ("a Git LFS pointer, not the shard itself", "git lfs pull"),
    b"PK\x03\x04": ("a zip archive", "unpack it and write its files with tar, uncompressed"),
    b"<": ("a web page or XML", "download the shard again: this is what the server answered instead"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One member: its name as key and ending, and its byte range in `plain`, which is the shard, or the uncompressed
    copy of a compressed shard."""

    shard: Path
    key: str
    ending: str
    offset: int
    size: int
    plain: Path

    @property
    def name(self) -> str:
        """The member's name in the shard."""
        return f"{self.key}.{self.ending}"

    @property
    def where(self) -> str:
        """How messages name the part."""
        return f"{self.shard}, {self.name}"

    def read(self) -> bytes:
        """Read the content. Threads may call it at the same time.

        Raises:
            DataError: the shard went away or became shorter.
        """
        try:
            with self.plain.open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read(self.size)
        except OSError as error:
            raise unreadable(self.shard, error) from error
        if len(data) < self.size:
            raise damaged("the shard ends inside a member", self.where)
        return data


@dataclass(slots=True)
class ShardSample:
    """The members of one key: those of each kind by their lower-case endings, the contents of the texts that were asked
    for, and the endings of all other members."""

    key: str
    parts: dict[str, Part] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def part(self, kind: Kind) -> Part | None:
        """The member of a kind; if there are several, the one whose ending comes first."""
        return next((self.parts[ending] for ending in ENDINGS[kind] if ending in self.parts), None)

    def text(self, part: Part) -> bytes:
        """The content of a member of the kind that was asked for."""
        return self.texts[part.ending.lower()]

    @property
    def endings(self) -> list[str]:
        """The endings of all members, for messages."""
        return [*(f".{part.ending}" for part in self.parts.values()), *(f".{other}" for other in self.others)]


@dataclass(slots=True)
class ReadShards:
    """What was skipped while shards were read: files of macOS, and by ending, members that belong to no sample."""

    left_by_macos: int = 0
    members: int = 0
    unknown: Counter[str] = field(default_factory=Counter)


def read_shard(shard: Path, text: Kind, passed: ReadShards, unpacked: Unpacked) -> list[ShardSample]:
    """Every sample of a shard, in the order of their first members.

    Only members of the kind `text` are read. Parts of a gzip-compressed shard are read from its uncompressed copy, so
    they can be used only as long as `unpacked` exists. A member such as `s1.mask.png` belongs to `s1`, and is skipped,
    if there is a sample with that key, as in webdataset; otherwise it is a part of `s1.mask`.

    Raises:
        DataError: not a complete tar file, plain or compressed with gzip; a member is a link, a device or too large; a
            part occurs twice; or a key with a dot could mean either of two samples. The message names the member.
    """
    found: dict[str, ShardSample] = {}
    first_keys: dict[str, str] = {}  # for keys with dots: the key that webdataset would use
    for name, part, content in _members(shard, text, passed, unpacked):
        key = sys.intern(name.key)
        sample = found.setdefault(key, ShardSample(key))
        if name.ending is None:
            sample.others.append(name.first_ending)
            passed.unknown[name.first_ending] += 1
            continue
        if key != name.first_key:
            first_keys[key] = name.first_key
        ending = name.ending.lower()
        if ending in sample.parts:
            raise DataError(
                f"the sample {key!r} has two parts of one kind, {sample.parts[ending].name!r} and {part.name!r}",
                where=shard,
                expected="one member for each extension",
                fix="write the shard again with distinct keys",
            )
        sample.parts[ending] = part
        if content is not None:
            sample.texts[ending] = content
    for key, first in first_keys.items():
        _settle(found, key, first, text, shard)
    return [sample for sample in found.values() if sample.parts]


def _settle(found: dict[str, ShardSample], key: str, first: str, text: Kind, shard: Path) -> None:
    """Decide whether a key with a dot is a sample of its own, or whether its members belong to webdataset's key."""
    sample, whole = found[key], found.get(first)
    if whole is None or not whole.parts:
        return
    if sample.part("picture") is not None and sample.part(text) is not None:
        raise DataError(
            f"{key!r} could be a sample of its own, or more of {first!r}: webdataset ends keys at the first dot",
            where=shard,
            expected="keys without dots, or none that is the beginning of another",
            fix=f"write the shard again, for example with {key.replace('.', '_')!r} for {key!r}",
        )
    whole.others += [part.name.removeprefix(f"{first}.") for part in sample.parts.values()]
    del found[key]


def damaged(what: str, where: object) -> DataError:
    """The error about a damaged or incomplete shard."""
    return DataError(what, where=where, expected="a complete tar file", fix="copy or write it again")


def compressed(shard: Path) -> DataError:
    """The error about a shard whose name ends as that of a compressed one; it says how to unpack or rename it."""
    try:
        with shard.open("rb") as stream:
            _check_format(stream.read(_BLOCK), shard)
    except OSError as error:
        return unreadable(shard, error)
    except DataError as error:
        return error
    plain = f"{shard.name.partition('.')[0]}.tar"
    return DataError(
        "the shard has the name of a compressed one, and is not compressed", where=shard, fix=f"mv {shard.name} {plain}"
    )


def _members(
    shard: Path, text: Kind, passed: ReadShards, unpacked: Unpacked
) -> Iterator[tuple[MemberName, Part, bytes | None]]:
    """Every member whose name has an ending, with its content if it is of the kind `text`."""
    try:
        plain = unpacked.plain(shard)
        with plain.open("rb") as stream:
            _check_format(stream.read(_BLOCK), shard)
            stream.seek(0)
            source: Any = _Headers(stream)  # typeshed requires a complete file object
            with tarfile.open(fileobj=source, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header, a kilobyte each
                    passed.members += 1
                    _check_header(member, shard)
                    if passed.members > limits.MEMBERS or len(tar.pax_headers) > limits.GLOBAL_HEADERS:
                        raise too_much(
                            "the shards have too many members, or headers for all of them",
                            shard,
                            f"at most {limits.MEMBERS:,} members and {limits.GLOBAL_HEADERS} headers for all",
                        )
                    if is_left_by_macos(member.name):
                        passed.left_by_macos += not member.isdir()
                        continue
                    name = None if member.isdir() else take_apart(member.name)
                    if name is not None:
                        _check_member(member, shard)
                        ending = sys.intern(name.first_ending if name.ending is None else name.ending)
                        part = Part(shard, name.key, ending, member.offset_data, member.size, plain)
                        yield name, part, _content(tar, member, shard) if name.kind == text else None
                _check_end(stream, tar.offset, shard)
    except OSError as error:
        raise unreadable(shard, error) from error
    except RecursionError as error:
        raise damaged("the shard cannot be read: headers that belong to headers", shard) from error
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise damaged(f"the shard cannot be read: {error}", shard) from error


class _Headers:
    """A stream that refuses to read more at once than a header or a sample's text may have."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes. Raises ReadError: they are more than the limit."""
        if not 0 <= size <= limits.HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._stream.read(size)


def _check_format(beginning: bytes, shard: Path) -> None:
    """Refuse a file that is not a tar file, and say what it is if its first bytes show it."""
    for magic, (kind, program, suffix) in _COMPRESSED.items():
        if beginning.startswith(magic):
            unpack = f"{program} {shard.name}"
            if shard.suffix.lower() == ".tar":  # unpacking programs do not accept this name
                unpack = f"mv {shard.name} {shard.name}{suffix} && {unpack}{suffix}"
            raise DataError(
                f"the shard is compressed with {kind}",
                where=shard,
                expected="a complete tar file, plain or compressed with gzip",
                fix=unpack,
            )
    for magic, (what, fix) in _NO_TAR.items():
        if beginning.startswith(magic) and b"ustar" not in beginning:
            raise DataError(f"the shard is {what}", where=shard, expected="a complete tar file", fix=fix)


def _check_header(member: tarfile.TarInfo, shard: Path) -> None:
    """Refuse a negative size, on which tarfile would loop for ever (CVE-2025-8194), and a name that is not UTF-8."""
    if member.size < 0:
        raise damaged(f"a member of {member.size:,} bytes", shard)
    if any("\ud800" <= character <= "\udfff" for character in member.name):
        raise damaged(f"the name {member.name!r} is not UTF-8", shard)


def _check_member(member: tarfile.TarInfo, shard: Path) -> None:
    if not member.isreg() or member.sparse is not None:
        raise DataError(
            f"{member.name!r} is a link, a device or sparse",
            where=shard,
            expected="plain files alone",
            fix="write the shard again",
        )
    if member.size > MAX_PART_BYTES:
        raise _too_large(member, shard, MAX_PART_BYTES)


def _too_large(member: tarfile.TarInfo, shard: Path, limit: int) -> DataError:
    return DataError(
        f"{member.name!r} has {member.size:,} bytes",
        where=shard,
        expected=f"at most {limit:,}",
        fix="remove the sample",
    )


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, shard: Path) -> bytes:
    if member.size > MAX_TEXT_BYTES:
        raise _too_large(member, shard, MAX_TEXT_BYTES)
    stream = tar.extractfile(member)
    assert stream is not None  # the member is a plain file
    return stream.read()


def _check_end(stream: object, offset: int, shard: Path) -> None:
    """Check the end of the archive: tarfile takes a damaged header for the end, and would silently lose all members
    after it."""
    assert hasattr(stream, "seek") and hasattr(stream, "read")
    stream.seek(offset)
    block = stream.read(_BLOCK)
    if len(block) < _BLOCK:
        raise damaged("the shard has no end: it was cut off", shard)
    while block:
        if block.strip(b"\0"):
            raise damaged(f"a damaged header, or data after the end, from byte {offset:,} on", shard)
        block = stream.read(_TAIL)
