"""The index: a summary of every release, so that lists need not parse every manifest; rebuilt when in doubt.

An entry is valid only while its manifest's inode, size and times are unchanged; a damaged or unknown index is made
anew. Nothing depends on the index alone: code that uses a release reads and verifies the manifest itself.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from artifacts import limits
from artifacts.errors import ClipsmithError, DamagedManifest
from artifacts.manifest import Manifest
from artifacts.models import Frozen
from artifacts.records import dump, parse, read_bytes
from artifacts.store import layout
from artifacts.store.summary import summary

_VERSION = 1
Summary = dict[str, Any]


class _Entry(Frozen):
    stat: tuple[int, int, int, int]
    summary: Summary


class _Index(Frozen):
    version: int
    entries: dict[str, _Entry]


def summaries(root: Path, *, save: bool) -> tuple[list[Summary], list[DamagedManifest]]:
    """A summary of every release, newest first, and the errors of the manifests that cannot be read.

    With `save`, the index is updated for the next call.
    """
    path = root / "cache" / "index.json"
    before = _load(path)
    entries: dict[str, _Entry] = {}
    damaged: list[DamagedManifest] = []
    for manifest_path in layout.manifests(root):
        key = manifest_path.relative_to(root / "releases").as_posix()
        stat = _signature(manifest_path)
        if stat is None:  # retired since the folder was listed
            continue
        entry = before.get(key)
        if entry is None or entry.stat != stat:
            try:
                entry = _Entry(stat=stat, summary=summary(load(root, manifest_path)))
            except DamagedManifest as error:
                damaged.append(error)
                continue
            except FileNotFoundError:
                continue
        entries[key] = entry
    if save and entries != before:
        _save(path, entries)
    found = sorted((entry.summary for entry in entries.values()), key=lambda s: (s["sequence"], s["model"]))
    return found[::-1], damaged


def load(root: Path, path: Path) -> Manifest:
    """Read a manifest, verified against its own digest and its path.

    Raises:
        DamagedManifest: it is damaged, or its file cannot be read (an OSError, except for a missing file).
        FileNotFoundError.
    """
    try:
        data = read_bytes(path, limits.MANIFEST)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedManifest(
            f"a manifest cannot be read: {error.strerror}", where=path, fix="make it readable, or remove it"
        ) from error
    manifest = Manifest.from_bytes(data, where=path)
    if path != layout.manifest_path(root, manifest.model, manifest.version):
        raise DamagedManifest(f"the manifest of {manifest.ref} is not in its place", where=path, fix="move it back")
    return manifest


def _signature(path: Path) -> tuple[int, int, int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _load(path: Path) -> dict[str, _Entry]:
    try:
        data = read_bytes(path, limits.INDEX)
        index = parse(_Index, data, where=path, error=ClipsmithError, what="the index", limit=limits.INDEX)
    except (OSError, ClipsmithError):
        return {}
    return index.entries if index.version == _VERSION else {}


def _save(path: Path, entries: dict[str, _Entry]) -> None:
    """Save the index if possible: a store that cannot be written can still be listed."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(6).hex()}")
    with suppress(OSError):
        try:
            temporary.write_bytes(dump(_Index(version=_VERSION, entries=entries)))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
