"""The cache of a store: what is kept is read back, what cannot be used is not there, and nothing of it leaves."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts import fs, limits
from artifacts.copies.archive import pack, unpack
from artifacts.copies.exporting import export
from artifacts.errors import ConfigError, DiskFull
from artifacts.records import dump
from artifacts.store import layout, results
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, digest, make_release

NAME = f"embed-3-{digest('key')}"


def kept(store: Store, name: str = NAME) -> Path:
    return store.root / "cache" / "results" / f"{name}.json"


def test_what_is_kept_is_read_back_by_whoever_has_the_store(store: Store, tmp_path: Path) -> None:
    assert results.read(store, NAME) is None
    results.write(store, NAME, '{"b": 1, "a": [2]}', step=("embed", 3))
    assert results.read(store, NAME) == '{"b": 1, "a": [2]}'
    assert results.read(Store.open(store.root, writable=False), NAME) == '{"b": 1, "a": [2]}'
    results.write(store, NAME, "newer")
    assert results.read(store, NAME) == "newer"
    assert results.read(Store.open(tmp_path / "other"), NAME) is None


def test_nobody_else_may_write_it(store: Store) -> None:
    results.write(store, NAME, "text")
    assert stat.S_IMODE(kept(store).stat().st_mode) == 0o444
    assert not kept(store).parent.stat().st_mode & 0o022
    assert list((store.root / "staging").iterdir()) == []


Damage = Callable[[Path], object]


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


def made_of(**changes: object) -> Damage:
    """Another entry in the place of this one, with the right digest."""

    def forge(path: Path) -> None:
        entry = results._parsed(path.read_bytes(), Store.open(path.parents[2], writable=False).id, NAME)
        path.unlink()
        path.write_bytes(dump(entry.model_copy(update=changes)))

    return forge


def replaced(make: Callable[[Path], object]) -> Damage:
    """Something else than a file in its place."""

    def change(path: Path) -> None:
        path.rename(path.parents[1] / "moved")
        make(path)

    return change


DAMAGE: dict[str, Damage] = {
    "empty": replaced(Path.touch),
    "torn": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one bit": flipped,
    "garbage": replaced(lambda path: path.write_bytes(b"\xff\0")),
    "a record of Prefect's": replaced(lambda path: path.write_text('{"metadata":{},"result":"1"}')),
    "another's": made_of(name=f"embed-3-{digest('another key')}"),
    "another store's": made_of(store="0" * 32),
    "a link": replaced(lambda path: path.symlink_to(path.parents[1] / "moved")),
    "a folder": replaced(lambda path: (path / "deep").mkdir(parents=True)),
    "a pipe": replaced(os.mkfifo),
    "too large": replaced(lambda path: path.write_bytes(b" " * (limits.RESULT.bytes + 1))),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_be_used_is_not_there_is_named_and_gives_way(
    store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    results.write(store, NAME, "text")
    kept(store).chmod(0o644)
    DAMAGE[damage](kept(store))
    assert results.read(store, NAME) is None
    assert f"not used: the entry {NAME} of the store's cache" in caplog.text
    assert verify(store.root).problems == ()
    assert collect(store, dry_run=True).leftovers == (f"cache/results/{NAME}.json",)
    results.write(store, NAME, "made again")
    assert results.read(store, NAME) == "made again"


@pytest.mark.parametrize(
    "name", ["", "../store", "a/b", "/etc/passwd", "a..b", ".hidden", "A", "a\n", "a\0", "é", "a" * 201]
)
def test_no_name_leads_elsewhere(store: Store, name: str) -> None:
    for use in (results.read, lambda *arguments: results.write(*arguments, "text")):
        with pytest.raises(ConfigError, match="cannot be the name"):
            use(store, name)
    assert not kept(store).parent.exists()


def test_a_result_may_be_as_large_as_a_manifest(store: Store) -> None:
    text = "x" * (limits.RESULT.bytes - 1000)
    results.write(store, NAME, text)
    assert results.read(store, NAME) == text
    assert collect(store).leftovers == ()


def test_what_could_not_be_read_again_is_not_kept(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    results.write(store, NAME, "x" * limits.RESULT.bytes)
    assert not kept(store).exists()
    assert f"not kept: the entry {NAME} of the store's cache: it cannot be read: it is larger than" in caplog.text


def test_a_full_disk_is_said_and_leaves_nothing_half_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(fs, "flush_file", full)
    with pytest.raises(DiskFull):
        results.write(store, NAME, "text")
    assert list(kept(store).parent.iterdir()) == list((store.root / "staging").iterdir()) == []


# --- the collector -----------------------------------------------------------------------------------------


def test_the_collector_takes_what_no_run_can_use(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    used, loose = add(store, b"used"), add(store, b"loose")
    for version in (1, 2):
        make_release(store, "a", digest(str(version)), used)
    gone, left = (store.find(f"a@{version}").identity for version in (1, 2))
    for name, about in {
        "stays-whole": {"objects": [used.digest], "step": ("trace", 2)},
        "stays-plain": {"step": ("check", 1)},
        "stays-plan": {"release": left},
        "goes-object": {"objects": [used.digest, loose.digest], "step": ("trace", 2)},
        "goes-version": {"objects": [used.digest], "step": ("trace", 1)},
        "goes-plan": {"release": gone},
    }.items():
        results.write(store, name, "text", **about)  # type: ignore[arg-type]
    assert collect(store).leftovers == ("cache/results/goes-version.json",), "this process holds the object"
    store.close()
    expected = ("cache/results/goes-object.json", "cache/results/goes-plan.json")
    planned = collect(store, keep=1, dry_run=True)
    assert planned.leftovers == expected
    assert planned.bytes > sum((store.root / path).stat().st_size for path in expected)
    assert collect(store, keep=1) == planned
    assert sorted(path.stem for path in kept(store).parent.iterdir()) == ["stays-plain", "stays-plan", "stays-whole"]
    assert caplog.messages == []


# --- copies ------------------------------------------------------------------------------------------------


def test_no_copy_of_a_release_takes_it_along(store: Store, tmp_path: Path) -> None:
    make_release(store, "a", digest("a"), add(store))
    results.write(store, NAME, "text that stays here", objects=[])
    manifest = store.find("a")
    export(store, manifest, tmp_path / "out")
    pack(store, manifest, tmp_path / "a.tar")
    other = Store.open(tmp_path / "other")
    unpack(other, tmp_path / "a.tar")
    assert not (other.root / layout.RESULTS).exists()
    taken = [path for path in [*(tmp_path / "out").rglob("*"), tmp_path / "a.tar"] if path.is_file()]
    assert all(b"text that stays here" not in path.read_bytes() for path in taken)


# --- beginning ---------------------------------------------------------------------------------------------


def test_a_store_that_has_releases_and_no_cache_says_so_once(store: Store, tmp_path: Path) -> None:
    make_release(store, "a", digest("a"), add(store))
    assert [results.begin(store), results.begin(store)] == [True, False]
    empty = Store.open(tmp_path / "empty")
    assert not results.begin(empty)
    make_release(empty, "a", digest("a"), add(empty))
    assert not results.begin(empty)
