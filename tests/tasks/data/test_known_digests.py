"""Digests remembered between runs are those of the bytes that the files hold now."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tasks.data import known_digests
from tasks.data.folder import Folder
from tests.tasks.data.support import pictures

FILES = ("a/1.png", "a/2.png", "b/3.png")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of records; three files are worth one here, and count as left alone at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(known_digests, "_WORTHWHILE", 3)
    monkeypatch.setattr(known_digests, "_SETTLED_NS", -(10**15))
    return tmp_path / "cache" / "clipsmith" / "digests"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return pictures(tmp_path / "set", *FILES)


def hashes(root: Path) -> list[str]:
    return [sample.image_hash for sample in Folder(root).samples]


def true(root: Path) -> list[str]:
    return [hashlib.sha256((root / name).read_bytes()).hexdigest() for name in FILES]


def never(path: Path) -> str:
    raise AssertionError(f"{path} is read")


def test_files_left_alone_are_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hashes(root) == true(root)
    monkeypatch.setattr("tasks.data.folder.digest_file", never)
    assert hashes(root) == true(root)


def test_a_file_changed_in_place_is_read_again_whatever_its_time_says(root: Path) -> None:
    hashes(root)
    before = (root / FILES[1]).stat()
    data = bytearray((root / FILES[1]).read_bytes())
    data[-1] ^= 1
    (root / FILES[1]).write_bytes(data)
    os.utime(root / FILES[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = (root / FILES[1]).stat()
    assert (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)
    assert hashes(root) == true(root)


def test_files_that_change_places_are_read_again(root: Path) -> None:
    hashes(root)
    (root / FILES[0]).rename(root / "spare")
    (root / FILES[2]).rename(root / FILES[0])
    (root / "spare").rename(root / FILES[2])
    assert hashes(root) == true(root)


def test_files_written_just_now_are_not_remembered(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another write might leave the same times."""
    monkeypatch.setattr(known_digests, "_SETTLED_NS", 10**15)
    assert hashes(root) == true(root)
    assert not cache.exists()


def test_few_files_leave_no_record(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_digests, "_WORTHWHILE", 4)
    assert hashes(root) == true(root)
    assert not cache.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "7",
        '{"NAME": 7}',
        '{"NAME": []}',
        '{"NAME": [[]]}',
        '{"NAME": ["DIGEST"]}',
        '{"NAME": [STAMP, 7]}',
        '{"NAME": [STAMP, "DIGESTf"]}',
        '{"NAME": [STAMP, "../../x"]}',
        '{"NAME": [STAMP]}',
    ],
)
def test_a_record_that_is_none_is_not_used(root: Path, cache: Path, text: str) -> None:
    hashes(root)
    (record,) = cache.iterdir()
    name, (*stamp, digest) = next(iter(json.loads(record.read_text()).items()))
    for word, value in {"NAME": name, "DIGEST": digest, "STAMP": json.dumps(stamp)[1:-1]}.items():
        text = text.replace(word, value)
    record.write_text(text)
    assert hashes(root) == true(root)


def test_nothing_is_remembered_where_nothing_can_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert hashes(root) == true(root) == hashes(root)


def test_old_records_go(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_digests, "_MOST", 2)
    for number in range(4):
        hashes(pictures(tmp_path / f"set{number}", *FILES))
    assert len(list(cache.iterdir())) == 2
    assert {path.stat().st_mode & 0o777 for path in cache.iterdir()} == {0o600}
