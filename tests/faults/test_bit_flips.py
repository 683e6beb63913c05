"""P4: every bit of a small store is flipped, one at a time, and whoever reads the file says so and names it.

Reading calls see every bit; `verify`, which takes longer, sees a sample by seed (all of it when thorough).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifacts.errors import (
    ClipsmithError,
    DamagedAlias,
    DamagedLedger,
    DamagedManifest,
    DamagedSignature,
    NotAStore,
    ObjectDamaged,
)
from artifacts.store import aliases, index, layout, ledger, results, signatures, tombstones
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.faults.scenarios import CACHED, lived_in
from tests.faults.support import scratch

SAMPLE = 20_000 if "CLIPSMITH_FAULT_TRIALS" in os.environ else 300
Read = Callable[[Path, Path], object]


def read_object(root: Path, path: Path) -> None:
    store = Store.open(root, writable=False)
    for manifest in store.releases():
        for file in manifest.files:
            if layout.object_folder(root, file.object) / file.member == path:
                store.read(manifest, file.path)
                return
    raise AssertionError(f"no release has {path}")


READERS: dict[str, tuple[Read, type[ClipsmithError]]] = {
    "releases/*/*.json": (index.load, DamagedManifest),
    "releases/*/*.retired": (lambda _, path: tombstones.read(path), DamagedManifest),
    "aliases/*/*/*.json": (
        lambda root, path: aliases.read(root, path.parts[-3], path.parts[-2], int(path.stem)),
        DamagedAlias,
    ),
    "signatures/*/*/*.json": (lambda _, path: signatures.read(path), DamagedSignature),
    "ledger/*/*.json": (lambda root, path: ledger.read(root, int(path.stem)), DamagedLedger),
    "objects/*/*/**/*.bin": (read_object, ObjectDamaged),
    "store.json": (lambda root, _: Store.open(root, writable=False), NotAStore),
}


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with scratch("flips") as folder:
        yield lived_in(Path(folder))


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """While inside, one bit of a file is another."""
    handle = os.open(path, os.O_RDWR)
    try:
        byte = os.pread(handle, 1, bit // 8)
        os.pwrite(handle, bytes([byte[0] ^ 1 << bit % 8]), bit // 8)
        yield
        os.pwrite(handle, byte, bit // 8)
    finally:
        os.close(handle)


def records(root: Path) -> list[Path]:
    return [path for pattern in READERS for path in sorted(root.glob(pattern)) if path.is_file()]


def test_everything_in_the_store_has_a_reader(root: Path) -> None:
    kept = {"store.json", "objects", "releases", "aliases", "signatures", "ledger"}
    files = {path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] in kept}
    assert files == set(records(root))
    assert {path.suffix for path in files} == {".json", ".retired", ".bin"}


@pytest.mark.parametrize("pattern", READERS)
def test_every_bit_is_seen_by_who_reads_the_file(root: Path, pattern: str) -> None:
    read, error = READERS[pattern]
    bits = 0
    paths = sorted(root.glob(pattern))
    assert paths
    for path in paths:
        path.chmod(0o600)
        read(root, path)
        for bit in range(8 * path.stat().st_size):
            bits += 1
            with flipped(path, bit):
                try:
                    read(root, path)
                except error as found:
                    assert path.name in str(found), f"bit {bit} of {path}: the message does not name the file"
                else:
                    raise AssertionError(f"bit {bit} of {path} was accepted")
        read(root, path)
    print(f"\n{pattern}: {bits} bits of {len(paths)} files")


def test_a_result_in_the_cache_that_has_another_bit_is_not_used(root: Path) -> None:
    store = Store.open(root, writable=False)
    path = layout.result_path(root, "trace-1-a")
    path.chmod(0o600)
    for bit in range(8 * path.stat().st_size):
        with flipped(path, bit):
            assert results.read(store, "trace-1-a") is None, f"bit {bit} was accepted"
    with flipped(path, 0):
        assert verify(root).problems == (), "it is no part of a release"
    assert results.read(store, "trace-1-a") == CACHED[-1]


def test_verify_names_the_file_of_a_flipped_bit(root: Path) -> None:
    places = [(path, bit) for path in records(root) for bit in range(8 * path.stat().st_size)]
    sample = random.Random(4).sample(places, min(SAMPLE, len(places)))
    for path, bit in sample:
        path.chmod(0o600)
        with flipped(path, bit):
            if path.name == layout.HEADER:
                with pytest.raises(NotAStore, match=r"store\.json"):
                    verify(root)
                continue
            where = {problem.where for problem in verify(root).problems}
            assert where == {path.relative_to(root).as_posix()}, f"bit {bit} of {path}"
    assert verify(root).problems == ()
    print(f"\nverify: {len(sample)} of {len(places)} bits")
