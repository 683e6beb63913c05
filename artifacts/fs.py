"""The few file-system calls the store makes: the one seam where faults are injected."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_READ_ONLY = 0o444


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fsync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_exclusive(path: Path, data: bytes, scratch: Path) -> None:
    """Create `path` with `data` durably, all or nothing.

    Written and flushed under `scratch` first, then hard-linked into place, so no reader ever sees a part of it.

    Raises:
        FileExistsError: `path` exists already; nothing was changed.
    """
    temporary = scratch / f"{path.name}.{os.getpid()}.{os.urandom(6).hex()}"
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(_READ_ONLY)
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def commit_tree(staging: Path, final: Path) -> None:
    """Move a finished folder into place durably and read-only.

    Raises:
        FileExistsError: `final` exists already (the kernel refuses to rename onto a folder with entries).
    """
    for folder, _, names in os.walk(staging):
        for name in names:
            (Path(folder) / name).chmod(_READ_ONLY)
            _fsync_file(Path(folder) / name)
        fsync_folder(Path(folder))
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        staging.rename(final)
    except OSError as error:
        if final.exists():
            raise FileExistsError(final) from error
        raise
    fsync_folder(final.parent)
    fsync_folder(final.parent.parent)


def discard_tree(folder: Path) -> None:
    """Remove a folder and what it holds; a folder that is not there is fine."""
    if folder.exists():
        shutil.rmtree(folder)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold `path` by flock; the kernel frees it when the holder dies (one host only)."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
