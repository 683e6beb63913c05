"""Copies of shards in gzip: made once, removed with the set, and never much larger than what they are of."""

from __future__ import annotations

import errno
import gzip
import os
import tempfile
from pathlib import Path

import pytest

from artifacts.errors import DataError
from tasks.data import unpacked
from tasks.data.unpacked import Unpacked
from tests.wording import refusal


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies lie."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def packed(folder: Path, data: bytes) -> Path:
    (folder / "0.tar.gz").write_bytes(gzip.compress(data))
    return folder / "0.tar.gz"


def test_a_copy_is_made_once_and_goes_with_its_owner(tmp_path: Path, temporary: Path) -> None:
    shard, owner = packed(tmp_path, b"content"), Unpacked()
    copy = owner.plain(shard)
    assert copy.read_bytes() == b"content" and owner.plain(shard) == copy and copy.is_relative_to(temporary)
    del owner
    assert list(temporary.iterdir()) == []


def test_what_is_plain_is_not_copied(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"content")
    assert Unpacked().plain(tmp_path / "0.tar") == tmp_path / "0.tar"
    assert list(temporary.iterdir()) == []


def test_a_copy_that_becomes_far_too_large_ends(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacked, "_FREE", 1 << 20)
    shard, owner = packed(tmp_path, bytes(8 << 20)), Unpacked()
    with refusal(DataError, "0.tar.gz"):
        owner.plain(shard)
    assert sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file()) == 0


@pytest.mark.parametrize("keep", [-9, 12])
def test_a_copy_of_half_a_shard(tmp_path: Path, keep: int) -> None:
    shard = packed(tmp_path, os.urandom(5000))
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(DataError, match="cannot be unpacked"):
        Unpacked().plain(shard)


def test_no_room_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shard = packed(tmp_path, b"content")
    monkeypatch.setattr(gzip, "open", full)
    with pytest.raises(DataError, match="No space left") as caught:
        Unpacked().plain(shard)
    assert "TMPDIR" in (caught.value.fix or "")
