"""Only its owner may write in a store, whatever the umask; its group may, if the owner allowed that.

New files and folders have these permissions from the start (`artifacts.fs`). This module repairs older stores and those
that somebody opened by hand: a user who may write in a folder of a store can replace any record in it.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from artifacts import fs
from artifacts.errors import StoreOpenToOthers
from artifacts.store import layout

_log = logging.getLogger(__name__)


def keep_others_out(root: Path) -> None:
    """Remove others' write permission from a store's own folders and lock files, as its owner and root can.

    Raises:
        StoreOpenToOthers: we are not allowed to, or the disk keeps no permissions.
    """
    if not any(map(_is_open, (root, *(root / name for name in (*layout.FOLDERS, layout.HEADER, layout.PUBLISH_LOCK))))):
        return
    places = [*([root] if _is_open(root) else []), *open_to_others(root)]
    try:
        for place in places:
            fs.close_to_others(place)
    except OSError as error:
        if error.errno == errno.EROFS:  # others cannot write either
            return
        raise StoreOpenToOthers(
            f"other users may write in the store, and it is not ours to close: {error.strerror}",
            where=error.filename or root,
            expected="folders that only their owner may write",
            fix=f"have the owner run `chmod -R go-w {root}`, or give another --store, as a new folder inside this one",
        ) from error
    if any(_is_open(place) for place in places):  # the disk keeps no permissions
        raise StoreOpenToOthers(
            "other users may write in the store, and its disk keeps no permissions",
            where=root,
            fix="give another --store, on a disk that does",
        )
    _log.warning("others could write in the store %s until now; `clipsmith verify` tells what is not as written", root)


def keep_private(folder: Path) -> None:
    """Close a folder of ours to other users: libraries create files in it with the permissions of the umask."""
    with suppress(PermissionError):
        if stat.S_IMODE(folder.stat().st_mode) & 0o077:
            folder.chmod(0o700)


def open_to_others(root: Path) -> Iterator[Path]:
    """The paths below a folder that others may write; links are not followed."""
    for below, folders, files in os.walk(root):
        yield from (path for name in (*folders, *files) if _is_open(path := Path(below, name)))


def _is_open(path: Path) -> bool:
    try:
        mode = path.stat().st_mode if not path.is_symlink() else 0
    except OSError:  # missing, or removed meanwhile
        return False
    return bool(mode & stat.S_IWOTH)
