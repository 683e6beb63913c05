"""P10: a copy of the store that lost something, or has only a part of it: `verify` reports exactly that."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifacts.errors import NotAStore
from artifacts.store import ledger
from artifacts.store.verification import verify
from tests.faults.scenarios import lived_in
from tests.faults.support import scratch

KEPT = ("objects", "releases", "aliases", "signatures", "ledger")
CHANGES: dict[str, Callable[[bytes], bytes | None]] = {
    "lost": lambda _: None,
    "empty": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "zeros at the end": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
}


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with scratch("copy") as folder:
        yield lived_in(Path(folder))


@pytest.fixture
def copy(root: Path) -> Iterator[Path]:
    with scratch("copy") as folder:
        yield Path(shutil.copytree(root, Path(folder) / "store"))


def files_of(root: Path) -> list[Path]:
    return [path for name in KEPT for path in sorted((root / name).rglob("*")) if path.is_file()]


def change(path: Path, how: str) -> None:
    data = CHANGES[how](path.read_bytes())
    path.chmod(0o600)
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def reported(root: Path) -> set[str]:
    return {problem.where for problem in verify(root).problems}


def test_a_whole_copy_is_sound(copy: Path) -> None:
    assert verify(copy).problems == ()
    assert len(files_of(copy)) > 25


@pytest.mark.parametrize("how", CHANGES)
def test_each_file_in_turn(copy: Path, how: str) -> None:
    last = ledger.entry_path(copy, ledger.last(copy))
    for path in files_of(copy):
        original = path.read_bytes()
        change(path, how)
        wanted = {path.relative_to(copy).as_posix()}
        if path == last and how == "lost":
            wanted = set()  # the same as a crash just before it was written; what it noted is there
        assert reported(copy) == wanted
        path.unlink(missing_ok=True)
        path.write_bytes(original)
    assert verify(copy).problems == ()


@pytest.mark.parametrize("seed", range(12))
def test_many_files_at_once(copy: Path, seed: int) -> None:
    dice = random.Random(seed)
    files = [path for path in files_of(copy) if "ledger" not in path.relative_to(copy).parts]
    chosen = dice.sample(files, dice.randint(2, len(files)))
    for path in chosen:
        change(path, dice.choice(sorted(CHANGES)))
    where = reported(copy)
    changed = {path.relative_to(copy).as_posix() for path in chosen}
    assert not ({path.relative_to(copy).as_posix() for path in files} - changed) & where
    for path in changed:
        # Of an object that no manifest lists any more, or that is gone, nobody names the files: it is named as a whole.
        assert any(path == found or path.startswith(f"{found}/") for found in where), path


@pytest.mark.parametrize("how", CHANGES)
def test_the_header(copy: Path, how: str) -> None:
    change(copy / "store.json", how)
    with pytest.raises(NotAStore) as caught:
        verify(copy)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize("name", KEPT)
def test_a_whole_folder(copy: Path, name: str) -> None:
    lost = [path.relative_to(copy).as_posix() for path in files_of(copy) if path.relative_to(copy).parts[0] == name]
    shutil.rmtree(copy / name)
    where = reported(copy)
    if name == "ledger":
        assert where == {"ledger"}
    else:
        assert all(any(path == w or path.startswith(f"{w}/") for w in where) for path in lost)


def test_folders_that_are_made_again(copy: Path) -> None:
    """Empty folders are left out by many tools, and locks, leases and caches by careful people: no damage."""
    for name in ("staging", "leases", "locks", "quarantine", "cache"):
        shutil.rmtree(copy / name)
    (copy / "publish.lock").unlink()
    assert verify(copy).problems == ()


def test_another_owner_and_other_times_are_no_damage(copy: Path) -> None:
    for path in copy.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o755)
    assert verify(copy).problems == ()
