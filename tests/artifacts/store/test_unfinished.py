"""Work that was interrupted: whole chunks come back in order, and nothing that follows a broken one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts import fs
from artifacts.errors import DiskFull
from artifacts.store.store import Store
from artifacts.store.unfinished import Partial
from tests.artifacts.support import digest

KEY = digest("some work")


@pytest.fixture
def work(store: Store) -> Path:
    """Three chunks; the folder they are in."""
    made = Partial(store, KEY)
    assert list(made.chunks()) == []
    for data in (b"one", b"", b"three"):
        made.add(data)
    return store.root / "cache" / "partial" / KEY


def read(store: Store) -> list[bytes]:
    return list(Partial(store, KEY).chunks())


def test_chunks_come_back_in_order_and_can_be_added_to(store: Store, work: Path) -> None:
    again = Partial(store, KEY)
    assert list(again.chunks()) == [b"one", b"", b"three"]
    again.add(b"four")
    assert (len(again), again.read(3), again.read(0)) == (4, b"four", b"one")
    assert read(store) == [b"one", b"", b"three", b"four"]
    assert list(Partial(store, digest("other work")).chunks()) == []
    again.discard()
    assert not work.exists()
    again.discard()
    assert read(store) == []


def test_one_at_a_time_has_a_key_to_itself(store: Store, work: Path) -> None:
    del work
    first, second = Partial(store, KEY), Partial(store, KEY)
    lock = store.root / "locks" / KEY
    with first.alone() as mine:
        assert mine
        with second.alone() as too:
            assert not too
        with Partial(store, digest("other work")).alone() as other:
            assert other
        assert lock.exists()
    assert not lock.exists()
    with pytest.raises(KeyError), first.alone():
        raise KeyError
    with second.alone() as mine:
        assert mine


def _cut(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


BREAK: dict[str, Callable[[Path], None]] = {
    "cut": _cut,
    "gone": Path.unlink,
    "another's": lambda path: path.replace(path.with_name(f"{9:09d}-{path.name.partition('-')[2]}")) and None,
}


@pytest.mark.parametrize("how", BREAK)
@pytest.mark.parametrize("number", [0, 2])
def test_what_follows_a_broken_chunk_is_made_again(store: Store, work: Path, how: str, number: int) -> None:
    BREAK[how](sorted(work.iterdir())[number])
    (work / "stray").write_bytes(b"x")
    again = Partial(store, KEY)
    assert list(again.chunks()) == [b"one", b"", b"three"][:number]
    assert len(list(work.iterdir())) == number
    again.add(b"new")
    assert read(store) == [*[b"one", b""][:number], b"new"]


def test_a_full_disk_is_said_plainly(store: Store, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    again = Partial(store, KEY)
    list(again.chunks())
    monkeypatch.setattr(fs, "write_file", full)
    with pytest.raises(DiskFull):
        again.add(b"more")
    monkeypatch.undo()
    assert read(store) == [b"one", b"", b"three"]
    assert work.is_dir()
