"""A cache of opened data sets, valid while their files do not change: a run opens one set a dozen times."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from artifacts.refs import digest_json
from tasks.data import open_dataset
from tasks.data.base import Role, Source, dataset_digest

_MOST = 4
"""The most sets in the cache: their samples are in memory."""
_TICK_NS = 20_000_000
"""Two writes within one tick of the kernel's clock leave equal times, so the times of a younger file prove nothing."""


@dataclass(frozen=True)
class Opened:
    """A set, the digest of its content, and a digest of its files' inodes, sizes and times (None: they were being
    written)."""

    dataset: Source
    digest: str
    stamp: str | None


_Key = tuple[str, Role, int | None, str | None]
_kept: dict[_Key, Opened] = {}
_opening: dict[_Key, threading.Lock] = {}
_mutex = threading.Lock()


def opened(spec: str, role: Role, limit: int | None, digest: str | None = None, columns: str | None = None) -> Opened:
    """A set as from `open_dataset`, read and hashed again only if one of its files has changed.

    A set on the hub is looked up again, unless the cached one has the content of `digest`.

    Raises:
        As `open_dataset`.
    """
    key = (spec, role, limit, columns)
    with _mutex:
        opening = _opening.setdefault(key, threading.Lock())
    with opening:
        known = _kept.get(key)
        if known is None or not _is_current(known, digest):
            known = _open(*key)
        with _mutex:
            _kept.pop(key, None)
            _kept[key] = known  # the most recently used is the last
            while len(_kept) > _MOST:
                del _kept[next(iter(_kept))]
    return known


def _is_current(known: Opened, digest: str | None) -> bool:
    files = known.dataset.files
    return known.stamp is not None and (known.stamp == _stamp(files) if files else known.digest == digest)


def _open(spec: str, role: Role, limit: int | None, columns: str | None) -> Opened:
    began = time.time_ns()
    dataset = open_dataset(spec, role, limit, columns)
    return Opened(dataset, dataset_digest(dataset), _stamp(dataset.files, began - _TICK_NS))


def _stamp(files: Iterable[Path], before_ns: int | None = None) -> str | None:
    """The digest of the files' inodes, sizes and times; None if one is gone, or changed after `before_ns`."""
    try:
        stats = [path.stat() for path in files]
    except OSError:
        return None
    if before_ns is not None and any(stat.st_ctime_ns >= before_ns for stat in stats):
        return None
    return digest_json([[s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for s in stats])
