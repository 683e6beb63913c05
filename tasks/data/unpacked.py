"""Uncompressed copies of gzip-compressed shards in a temporary folder, as members of a compressed file cannot be read
in place."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path

from artifacts.errors import DataError
from tasks.data.rows import unreadable

SUFFIXES = (".tar.gz", ".tgz")
_MAGIC = b"\x1f\x8b"
_MOST = 200
"""How many times larger than the shard a copy may be. Zeros, which fill most of a small member, shrink about a
thousandfold; pictures of a kilobyte, each in three blocks of 512 bytes, about threefold."""
_FREE = 64 << 20  # bytes that a copy may always have
_CHUNK = 1 << 20


class Unpacked:
    """Makes copies on demand; they are removed with this object."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._plain: dict[Path, Path] = {}

    def plain(self, shard: Path) -> Path:
        """The shard itself, or the uncompressed copy of a compressed shard.

        Raises:
            DataError: it cannot be read or unpacked, or becomes far too large.
        """
        try:
            with shard.open("rb") as stream:
                if stream.read(len(_MAGIC)) != _MAGIC:
                    return shard
        except OSError as error:
            raise unreadable(shard, error) from error
        if shard not in self._plain:
            self._plain[shard] = self._copy(shard)
        return self._plain[shard]

    def _copy(self, shard: Path) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="clipsmith-shards-", ignore_cleanup_errors=True)
        place = Path(self._folder.name) / f"{len(self._plain)}.tar"
        most = _FREE + _MOST * shard.stat().st_size
        written = 0
        try:
            with gzip.open(shard) as packed, place.open("wb") as copy:
                while chunk := packed.read(_CHUNK):
                    written += len(chunk)
                    if written > most:
                        raise DataError(
                            f"the compressed shard holds more than {_MOST} times its size",
                            where=shard,
                            expected="pictures, which shrink little",
                            fix="look at where it comes from; unpack it yourself if it is sound",
                        )
                    copy.write(chunk)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise DataError(
                f"the shard cannot be unpacked: {error}",
                where=shard,
                expected="a complete tar file, plain or compressed with gzip",
                fix="copy or download it again",
            ) from error
        except OSError as error:
            raise DataError(
                f"the shard cannot be unpacked: {error.strerror}",
                where=f"{shard} to {place.parent}",
                expected="room for a plain copy of each compressed shard",
                fix="make room, set TMPDIR to another disk, or unpack the shards where they lie with gunzip",
            ) from error
        finally:
            if written > most:
                place.unlink()
        return place
