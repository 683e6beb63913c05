"""Entries are numbered without gaps, whoever appends, and a thousand share a folder."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from artifacts import fs
from artifacts.errors import DamagedLedger
from artifacts.store import ledger
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import rewrite


@pytest.fixture
def note(store: Store) -> Path:
    (store.root / "aliases" / "note").write_bytes(b"x")
    return store.root / "aliases" / "note"


def test_entries_count_up_over_folders(store: Store, note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_SHARD", 3)
    assert ledger.last(store.root) == 0
    for _ in range(8):
        ledger.append(store.root, note)
    assert sorted(path.name for path in (store.root / "ledger").iterdir()) == ["0", "1", "2"]
    assert [ledger.read(store.root, number).number for number in ledger.numbers(store.root)] == list(range(1, 9))
    assert ledger.read(store.root, 8).path == "aliases/note"


def test_racing_writers_leave_no_gap(store: Store, note: Path) -> None:
    threads = [threading.Thread(target=ledger.append, args=(store.root, note)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([ledger.read(store.root, number) for number in ledger.numbers(store.root)]) == 8


def test_an_entry_in_another_place_is_refused(store: Store, note: Path) -> None:
    for _ in range(2):
        ledger.append(store.root, note)
    rewrite(ledger.entry_path(store.root, 2), ledger.entry_path(store.root, 1).read_bytes())
    with pytest.raises(DamagedLedger, match="not in its place"):
        ledger.read(store.root, 2)


def test_a_record_without_its_entry_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that was killed between the two leaves."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    from tests.artifacts.support import add, digest, make_release

    ref = add(store)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            make_release(store, "a", digest("1"), ref)
    assert store.find("a").version == 1
    assert verify(store.root).problems == ()
    assert make_release(store, "a", digest("2"), ref)[0].version == 2


def test_fsync_comes_before_the_entry(store: Store, note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real_link, real_flush = fs.link, fs.flush_file
    monkeypatch.setattr(fs, "flush_file", lambda path: (order.append("flush"), real_flush(path)))
    monkeypatch.setattr(fs, "link", lambda a, b: (order.append("link"), real_link(a, b)))
    ledger.append(store.root, note)
    assert order == ["flush", "link"]
