"""Network file systems are recognised from the mount table and refused for stores that are written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import UnsupportedFileSystem
from artifacts.store import mounts
from artifacts.store.store import Store

TABLE = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:40 / /mnt/team rw,relatime shared:2 - nfs4 server:/export rw,vers=4.2
41 40 0:41 / /mnt/team/local rw shared:3 - xfs /dev/sdb1 rw
42 22 0:42 / /mnt/with\040space rw shared:4 - cifs //server/share rw
43 22 0:43 / /mnt/team2 rw - tmpfs tmpfs rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x", "ext4"),
        ("/mnt/team", "nfs4"),
        ("/mnt/team/store/objects", "nfs4"),
        ("/mnt/team/local/store", "xfs"),
        ("/mnt/with space/store", "cifs"),
        ("/mnt/team2/store", "tmpfs"),
        ("/mnt/teams", "ext4"),
    ],
)
def test_the_deepest_mount_counts(path: str, kind: str) -> None:
    assert mounts.file_system(Path(path), TABLE) == kind


def test_this_machine() -> None:
    assert mounts.file_system(Path("/proc")) == "proc"


def test_a_store_on_nfs_is_refused_for_writing_and_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(tmp_path / "old")
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 22 0:40 / {tmp_path} rw - nfs4 server:/export rw\n")
    monkeypatch.setattr(mounts, "_MOUNTS", table)
    for name in ("old", "new"):
        with pytest.raises(UnsupportedFileSystem, match="network file system") as caught:
            Store.open(tmp_path / name)
        assert "clipsmith push" in (caught.value.fix or "")
    assert not (tmp_path / "new").exists()
    assert Store.open(tmp_path / "old", writable=False).releases() == []
