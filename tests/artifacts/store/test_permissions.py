"""Others may write in no store, copy or export, whatever the umask; stores of before are closed or refused."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifacts import fs
from artifacts.copies.archive import pack, unpack
from artifacts.copies.exporting import export
from artifacts.copies.replica import pull, push
from artifacts.errors import StoreOpenToOthers
from artifacts.keeping.promotion import promote
from artifacts.store import layout, signatures
from artifacts.store.permissions import open_to_others
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, digest, key_pair, make_release
from tests.conftest import run_clipsmith

NOT_OURS = stat.S_IWGRP | stat.S_IWOTH


@pytest.fixture(params=[0o000, 0o077, 0o022], ids=["umask-000", "umask-077", "umask-022"])
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def loose(root: Path) -> list[str]:
    """What others, or the group, may write, at and below a folder."""
    return [str(path) for path in (root, *root.rglob("*")) if path.lstat().st_mode & NOT_OURS]


def test_nothing_that_we_make_is_for_others_to_write(mask: int, tmp_path: Path) -> None:
    one, two = Store.open(tmp_path / "new" / "one"), Store.open(tmp_path / "two")
    made, _ = make_release(one, "a", digest("1"), add(one, b"x", "deep/er/a.bin"), add(one, b"y"))
    with one.staging() as folder:
        assert one.root / "staging" == folder.parent
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        assert loose(one.root) == []
    promote(one, "a@1", "production")
    signatures.sign(one, made, key_pair(tmp_path)[0], None)
    export(one, made, tmp_path / "out" / "export")
    push(one, made, str(tmp_path / "copies" / "copy"))
    pull(two, "a@1", str(tmp_path / "copies" / "copy"))
    pack(one, made, tmp_path / "a.tar")
    three = Store.open(tmp_path / "three")
    unpack(three, tmp_path / "a.tar")
    for root in (tmp_path / "new", two.root, three.root, tmp_path / "out"):
        assert loose(root) == [], root
    folders = [path for path in (tmp_path / "copies").rglob("*") if path.is_dir()]
    assert not [path for path in folders if path.stat().st_mode & NOT_OURS and mask]
    readable = 0o700 if mask == 0o077 else 0o755
    assert stat.S_IMODE((tmp_path / "out" / "export").stat().st_mode) == readable


def test_commands_make_nothing_for_others_to_write(tmp_path: Path, store: Store) -> None:
    make_release(store, "a", digest("1"), add(store))
    before = os.umask(0)
    try:
        for command, place in (("export", "e"), ("push", "c"), ("pack", "p.tar")):
            assert run_clipsmith(command, "a@1", tmp_path / place, "--store", store.root).code == 0
    finally:
        os.umask(before)
    assert [found for name in ("e", "c", "p.tar") for found in loose(tmp_path / name)] == []


def opened(root: Path) -> None:
    """As a store that was made under umask 000."""
    for path in (root, *root.rglob("*")):
        path.chmod(path.stat().st_mode | (0o777 if path.is_dir() else 0))
    (root / layout.PUBLISH_LOCK).chmod(0o666)


@pytest.mark.parametrize("writable", [True, False])
def test_a_store_of_before_is_closed(store: Store, writable: bool, caplog: pytest.LogCaptureFixture) -> None:
    make_release(store, "a", digest("1"), add(store, b"x", "deep/a.bin"))
    opened(store.root)
    with caplog.at_level(logging.WARNING):
        Store.open(store.root, writable=writable)
    assert "others could write in the store" in caplog.text
    assert loose(store.root) == []
    caplog.clear()
    Store.open(store.root, writable=writable)
    assert caplog.text == ""


def refusing(error: OSError) -> Callable[[Path], None]:
    def refuse(_: Path) -> None:
        raise error

    return refuse


def test_one_that_is_not_ours_to_close_is_refused_with_the_command(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.root.chmod(0o777)
    monkeypatch.setattr(fs, "close_to_others", refusing(PermissionError(errno.EPERM, "not permitted", str(store.root))))
    with pytest.raises(StoreOpenToOthers, match=f"chmod -R go-w {store.root}"):
        Store.open(store.root)
    monkeypatch.setattr(fs, "close_to_others", lambda _: None)
    with pytest.raises(StoreOpenToOthers, match="keeps no permissions"):
        Store.open(store.root)
    monkeypatch.setattr(fs, "close_to_others", refusing(OSError(errno.EROFS, "read-only", str(store.root))))
    assert Store.open(store.root, writable=False).id == store.id


def test_a_group_that_was_let_in_stays(store: Store) -> None:
    """Kubernetes' fsGroup does so with volumes."""
    store.root.chmod(0o2775)
    Store.open(store.root)
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o2775


def test_verify_finds_what_is_open_further_down(store: Store) -> None:
    make_release(store, "a", digest("1"), add(store))
    (store.root / "releases" / "a").chmod(0o777)
    (problem,) = verify(store.root).problems
    assert (problem.where, problem.what) == ("releases/a", "other users may write it: `chmod go-w`")
    assert list(open_to_others(store.root)) == [store.root / "releases" / "a"]
