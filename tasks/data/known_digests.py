"""Digests of a data set's files, remembered on this machine from one run to the next.

~/.cache/clipsmith/digests/<digest of the folder's path>.json    (or below $XDG_CACHE_HOME)

As Git does, a file whose inode, size and times are those of before is taken to hold the same bytes. No run depends on
it: each picture is held to its digest when it is decoded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_WORTHWHILE = 1000
"""Files from which reading them all takes seconds."""
_SETTLED_NS = 10_000_000_000
"""How long a file must have been left alone: clocks of file servers differ from ours, and tick coarsely."""
_LARGEST = 1 << 28
"""Bytes of a record: a million files take half of it."""
_MOST = 64
"""Records that are kept; those written last stay."""
_SHA256 = re.compile("[0-9a-f]{64}")


class KnownDigests:
    """The digests of the files below one folder."""

    def __init__(self, folder: Path) -> None:
        self._record = _cache() / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()}.json"
        self._before = _read(self._record)
        self._settled = time.time_ns() - _SETTLED_NS

    def known(self, path: Path, stat: os.stat_result) -> str | None:
        """The sha256 (hex) of a file from before, if its `stat` is that of before."""
        *stamp, digest = self._before.get(str(path)) or [None]
        valid = isinstance(digest, str) and _SHA256.fullmatch(digest) is not None
        return digest if valid and stamp == _stamp(stat) else None

    def keep(self, digests: Mapping[Path, str], stats: Mapping[Path, os.stat_result]) -> None:
        """Write the record for the next run, if it is worth it; where that is not possible, nothing is remembered.

        `stats` must be from before the files were read.
        """
        settled = [path for path, stat in stats.items() if stat.st_ctime_ns < self._settled]
        now = {str(path): [*_stamp(stats[path]), digests[path]] for path in settled}
        if len(now) < _WORTHWHILE or now == self._before:
            return
        with suppress(OSError):
            self._record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._record.parent, delete=False) as stream:
                json.dump(now, stream)
            Path(stream.name).replace(self._record)
            records = sorted(self._record.parent.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            for old in records[:-_MOST]:
                old.unlink()


def _stamp(stat: os.stat_result) -> list[int]:
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clipsmith" / "digests"


def _read(record: Path) -> dict[str, list[Any]]:
    """What was kept; nothing if it cannot be read, or is no record of ours."""
    try:
        if record.stat().st_size > _LARGEST:
            return {}
        found = json.loads(record.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, list) and entry}
