"""The few file-system calls that the store makes, in one module, so that tests can inject faults here.

The functions up to `remove_folder` are single operations. Everything below is made of them and looks them up in this
module at each call, so that a test can replace one of them for all its uses.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from artifacts.errors import causes

_READ_ONLY = 0o444
_OTHERS = stat.S_IWGRP | stat.S_IWOTH

# --- single operations ---------------------------------------------------------------------------------------


def make_folder(path: Path) -> None:
    """Create one folder, in which only its owner may write; FileExistsError when something is there."""
    path.mkdir(mode=0o755)


def write_file(path: Path, data: bytes) -> None:
    """Create `path` with `data`, read-only, not yet flushed; FileExistsError when it exists."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fchmod(handle, _READ_ONLY)
    finally:
        os.close(handle)


def set_read_only(path: Path) -> None:
    """Make a file read-only (a hint to people: integrity is checked by digest)."""
    path.chmod(_READ_ONLY)


def close_to_others(path: Path) -> None:
    """Remove write permission from everybody but the owner."""
    path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)


def flush_file(path: Path) -> None:
    """Make a file's bytes durable."""
    _fsync(path, os.O_RDONLY)


def flush_folder(path: Path) -> None:
    """Make a folder's entries durable."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, atomically; FileExistsError when `target` exists. This is our compare-and-swap."""
    os.link(source, target)


def rename(source: Path, target: Path) -> None:
    """Move within the store; the kernel refuses to put a folder onto one that has entries."""
    source.rename(target)


def unlink(path: Path) -> None:
    """Remove one name of a file; one that is gone already, or below what is no folder, is fine."""
    with suppress(NotADirectoryError):
        path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove an empty folder."""
    path.rmdir()


def _fsync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- made of them --------------------------------------------------------------------------------------------


def durable_folder(path: Path, root: Path) -> None:
    """Make `path` and its missing parents below `root`, durably.

    A folder that is there already is flushed too: the process that made it may have been killed before flushing it.
    """
    if path == root:
        return
    durable_folder(path.parent, root)
    if not path.is_dir():
        try:
            make_folder(path)
        except FileExistsError as error:
            if not path.is_dir():  # not FileExistsError: that says that a record's place is taken
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    flush_folder(path.parent)


def make_folders(path: Path) -> None:
    """Create a folder and its missing parents, writable by their owner only."""
    for folder in reversed((path, *path.parents)):
        if not folder.is_dir():
            with suppress(FileExistsError):
                make_folder(folder)


def close_tree(folder: Path) -> None:
    """Remove others' write permission from a folder and all below it: libraries create files as the umask allows."""
    for below, _, names in os.walk(folder):
        for path in (Path(below), *(Path(below, name) for name in names)):
            if not path.is_symlink() and path.stat().st_mode & _OTHERS:
                close_to_others(path)


def write_exclusive(path: Path, data: bytes, scratch: Path) -> None:
    """Create `path` with `data` durably, all or nothing.

    Written and flushed under `scratch` first, then hard-linked into place, so no reader ever sees a part of it.

    Raises:
        FileExistsError: `path` exists already; nothing was changed.
    """
    temporary = scratch / f"{path.name}.{os.getpid()}.{os.urandom(6).hex()}"
    try:
        write_file(temporary, data)
        flush_file(temporary)
        link(temporary, path)
    finally:
        unlink(temporary)
    flush_folder(path.parent)


def commit_tree(staging: Path, final: Path, root: Path) -> None:
    """Move a finished folder into place durably and read-only; `final` is below `root`.

    Raises:
        FileExistsError: `final` exists already.
    """
    for path in files_below(staging):
        set_read_only(path)
    close_tree(staging)
    flush_tree(staging)
    durable_folder(final.parent, root)
    try:
        rename(staging, final)
    except OSError as error:
        if final.exists():
            raise FileExistsError(final) from error
        raise
    flush_folder(final.parent)


def keep(path: Path, root: Path) -> None:
    """Make something that is already in place durable, also if another process put it there: a file, or a folder with
    all below it, and every folder entry up to `root`."""
    if path.is_dir():
        flush_tree(path)
    else:
        flush_file(path)
    for parent in path.parents:
        flush_folder(parent)
        if parent == root:
            return


def flush_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and itself."""
    for path in files_below(folder):
        flush_file(path)
    for below, _, _ in os.walk(folder, topdown=False):
        flush_folder(Path(below))


def move_away(path: Path, to: Path) -> None:
    """Move a file or folder durably: after a power loss it is whole, at one path or the other."""
    rename(path, to)
    flush_folder(to.parent)
    flush_folder(path.parent)


def discard_tree(folder: Path) -> None:
    """Remove a folder and what it holds; one that is not there is fine."""
    if not folder.is_dir() or folder.is_symlink():
        unlink(folder)
        return
    for entry in sorted(folder.iterdir()):
        discard_tree(entry)
    remove_folder(folder)


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in the order of their paths."""
    yield from sorted(Path(below) / name for below, _, names in os.walk(folder) for name in names)


def is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that there is no room left.

    Libraries in C++ and Rust (safetensors, onnx, arrow) put the system's message into exceptions of their own.
    """
    full = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "os error 28")
    return any(
        (isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT))
        or any(text in str(cause) for text in full)
        for cause in causes(error)
    )


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of `folder` that this user may fill."""
    return shutil.disk_usage(folder).free
