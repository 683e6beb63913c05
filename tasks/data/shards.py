"""Tar files of samples, as the webdataset library writes them: found by their headers, read where they lie.

A sample is a run of members with one key: `s0000003.png` and `s0000003.cls` are two parts of `s0000003`. Nothing is
extracted, so the members' paths, owners and modes have no effect.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from artifacts.errors import DataError
from tasks.data.rows import unreadable

MAX_PART_BYTES = 256 << 20
MAX_TEXT_BYTES = 64 << 10
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)  # as webdataset splits a member's name
_BLOCK = 512  # bytes: headers and contents of a tar file start at multiples of it
_TAIL = 1 << 20  # bytes of padding read at a time


@dataclass(frozen=True, slots=True)
class Part:
    """One member: its name, and its place in the shard in bytes; `data` where it was asked for."""

    shard: Path
    name: str
    offset: int
    size: int
    data: bytes | None

    @property
    def where(self) -> str:
        """The part as messages name it."""
        return f"{self.shard}, {self.name}"

    def read(self) -> bytes:
        """The content, read again. Safe in several threads at once.

        Raises:
            DataError: the shard went away or became shorter.
        """
        try:
            with self.shard.open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read(self.size)
        except OSError as error:
            raise unreadable(self.shard, error) from error
        if len(data) < self.size:
            raise damaged("the shard ends inside a member", self.where)
        return data


def read_shard(shard: Path, texts: Collection[str]) -> Iterator[tuple[str, dict[str, Part]]]:
    """Every sample in order: its key, and its parts by lower-case extension. Content is read of `texts` alone.

    Raises:
        DataError: not a complete, uncompressed tar file; a member that is a link, a device or too large; a part that
            comes twice. Names the member.
    """
    for key, parts in groupby(_parts(shard, texts), key=lambda part: _split(part.name)[0]):
        found: dict[str, Part] = {}
        for part in parts:
            kind = _split(part.name)[1]
            if kind in found:
                raise DataError(
                    f"the sample {key!r} has two parts of one kind, {found[kind].name!r} and {part.name!r}",
                    where=shard,
                    expected="one member for each extension",
                    fix="write the shard again with distinct keys",
                )
            found[kind] = part
        yield key, found


def damaged(what: str, where: object) -> DataError:
    """The error about a shard that is not whole."""
    return DataError(what, where=where, expected="a complete, uncompressed tar file", fix="copy or write it again")


def _split(name: str) -> tuple[str, str]:
    match = _NAME.fullmatch(name)
    assert match is not None  # _parts leaves the others out
    return match[1], match[2].lower()


def _parts(shard: Path, texts: Collection[str]) -> Iterator[Part]:
    try:
        with shard.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header, a kilobyte each
                _check_header(member, shard)
                if _NAME.fullmatch(member.name) and not member.isdir():
                    _check_member(member, shard)
                    wanted = _split(member.name)[1] in texts
                    yield Part(shard, member.name, member.offset_data, member.size, _text(tar, member, shard, wanted))
            _check_end(stream, tar.offset, shard)
    except OSError as error:
        raise unreadable(shard, error) from error
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise damaged(f"the shard cannot be read: {error}", shard) from error


def _check_header(member: tarfile.TarInfo, shard: Path) -> None:
    """Every member's: a negative size would lead tarfile back to where it has been, for ever (CVE-2025-8194)."""
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


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo, shard: Path, wanted: bool) -> bytes | None:
    if not wanted:
        return None
    if member.size > MAX_TEXT_BYTES:
        raise _too_large(member, shard, MAX_TEXT_BYTES)
    stream = tar.extractfile(member)
    assert stream is not None  # a plain file
    return stream.read()


def _check_end(stream: object, offset: int, shard: Path) -> None:
    """tarfile takes a damaged header for the end, and so would lose all that follows without a word."""
    assert hasattr(stream, "seek") and hasattr(stream, "read")
    stream.seek(offset)
    block = stream.read(_BLOCK)
    if len(block) < _BLOCK:
        raise damaged("the shard has no end: it was cut off", shard)
    while block:
        if block.strip(b"\0"):
            raise damaged(f"a damaged header, or data after the end, from byte {offset:,} on", shard)
        block = stream.read(_TAIL)
