"""What kind of file system a folder is on, from Linux's mount table (proc(5), /proc/self/mountinfo)."""

from __future__ import annotations

import re
from pathlib import Path

from artifacts.errors import UnsupportedFileSystem

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.goofys", "fuse.blobfuse2"),
    }
)


def file_system(path: Path, mounts: str | None = None) -> str:
    """The file system type of the deepest mount that holds `path`; empty where the system has no mount table."""
    if mounts is None:
        mounts = _MOUNTS.read_text() if _MOUNTS.exists() else ""
    path = path.resolve()
    best: tuple[int, str] = (-1, "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        escaped = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
        point = Path(escaped)
        if point == path or point in path.parents:
            best = max(best, (len(point.parts), after.split()[0]), key=lambda pair: pair[0])
    return best[1]


def refuse_network(path: Path) -> None:
    """Refuse a folder on a network file system, whose locks may not work between hosts or after a lost connection.

    Raises:
        UnsupportedFileSystem.
    """
    kind = file_system(path)
    if kind in _NETWORK:
        raise UnsupportedFileSystem(
            f"the store is on a network file system ({kind})",
            where=path,
            expected="a local disk: gc and publishers keep out of each other's way by flock, on one host",
            fix="keep the store on a local disk and copy releases with `clipsmith push` and `clipsmith pull`",
        )
