"""Repair puts back what can be had again, moves the rest aside, and says what is still wrong."""

from __future__ import annotations

import shutil

import pytest

from artifacts.keeping.repair import advice, repair
from artifacts.manifest import Row
from artifacts.release.frames import write_tables
from artifacts.schema import SCHEMAS
from artifacts.store import layout
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, digest, files_of, make_release, place, rewrite


def test_a_file_that_another_object_also_has_is_copied_back(store: Store) -> None:
    """The exported checkpoint and its source share weights: one of them is enough."""
    first = add(store, b"weights", "a.bin")
    second = add(store, b"weights", "b.bin")
    make_release(store, "a", digest("1"), first, second)
    rewrite(place(store, first) / "a.bin", b"wEights")
    done = repair(store)
    assert (done.restored, done.quarantined, done.after.problems) == ((first.digest,), (), ())
    assert (place(store, first) / "a.bin").read_bytes() == b"weights"
    assert not (place(store, first) / "a.bin").stat().st_mode & 0o222


def test_a_lost_object_is_put_together_again(store: Store) -> None:
    first = add(store, b"weights", "deep/a.bin")
    make_release(store, "a", digest("1"), first, add(store, b"weights", "b.bin"))
    shutil.rmtree(place(store, first))
    assert repair(store).restored == (first.digest,)
    assert verify(store.root).problems == ()


def test_tables_are_derived_again_from_the_manifest(store: Store) -> None:
    """P14: delete, rebuild, compare."""
    row: Row = {column.name: None if column.nullable else "x" for column in SCHEMAS["stages"].columns}
    tables = {"stages": ({**row, "step": "trace"},)}
    with store.staging() as folder:
        write_tables(tables, folder)
        ref = store.add("tables", folder)
    make_release(store, "a", digest("1"), ref, tables=tables, files=files_of(ref, "tables"))
    before = {path.name: path.read_bytes() for path in place(store, ref).iterdir()}
    shutil.rmtree(place(store, ref))
    assert repair(store).restored == (ref.digest,)
    assert {path.name: path.read_bytes() for path in place(store, ref).iterdir()} == before


def test_what_cannot_be_had_again_is_moved_aside_and_named(store: Store) -> None:
    ref, good = add(store, b"engine"), add(store, b"good", "b.bin")
    make_release(store, "a", digest("1"), ref, good)
    rewrite(place(store, ref) / "a.bin", b"eNgine")
    done = repair(store)
    assert done.restored == ()
    assert done.quarantined == (f"objects/{ref.digest[:2]}/{ref.digest}",)
    (problem,) = done.after.problems
    assert (problem.kind, problem.object, problem.releases) == ("missing", ref.digest, ("a@1",))
    assert "clipsmith optimize" in advice(problem)
    assert store.path(good, "b.bin").read_bytes() == b"good"
    add(store, b"engine")  # what the next run does
    assert verify(store.root).problems == ()


def test_damage_that_no_release_uses_is_moved_aside(store: Store) -> None:
    ref = add(store, b"loose")
    rewrite(place(store, ref) / "a.bin", b"lOose")
    (store.root / "objects" / "stray").write_bytes(b"x")
    done = repair(store)
    assert len(done.quarantined) == 2
    assert done.after.problems == ()


def test_a_damaged_manifest_is_left_and_reported(store: Store) -> None:
    ref = add(store)
    make_release(store, "a", digest("1"), ref)
    path = layout.manifest_path(store.root, "a", 1)
    rewrite(path, b"{}")
    done = repair(store)
    assert path.read_bytes() == b"{}"
    (problem,) = done.after.problems
    assert problem.where == "releases/a/1.json"
    assert "copy of the store" in advice(problem)
    assert place(store, ref).exists()


def test_a_sound_store_is_left_alone(store: Store) -> None:
    make_release(store, "a", digest("1"), add(store))
    before = sorted((store.root / "objects").rglob("*"))
    done = repair(store)
    assert (done.restored, done.quarantined, done.after.problems) == ((), (), ())
    assert sorted((store.root / "objects").rglob("*")) == before


def test_a_damaged_source_does_not_count(store: Store) -> None:
    """Both copies are damaged: nothing is restored from either."""
    first, second = add(store, b"weights", "a.bin"), add(store, b"weights", "b.bin")
    make_release(store, "a", digest("1"), first, second)
    for ref, name in ((first, "a.bin"), (second, "b.bin")):
        rewrite(place(store, ref) / name, b"wEights")
    assert repair(store).restored == ()


@pytest.mark.parametrize(("where", "words"), [("aliases/a/production/1.json", "promote"), ("store.json", "copy")])
def test_advice(where: str, words: str) -> None:
    from artifacts.store.verification import Problem

    assert words in advice(Problem("damaged", where, "x"))
