"""`verify` reports exactly what is missing or damaged, and nothing on a store that is merely unfinished."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from artifacts.errors import NotAStore
from artifacts.keeping.promotion import promote
from artifacts.store import layout, ledger
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from artifacts.store.verification import Problem, verify
from tests.artifacts.support import add, digest, make_release, place, rewrite

OBJECTS = 4


@pytest.fixture
def sound(store: Store) -> Store:
    """Two releases that share an object, one retired, an alias, and an object that no release uses."""
    shared = add(store, b"shared", "deep/shared.bin")
    for n in range(1, 4):
        make_release(store, "a", digest(str(n)), add(store, b"object %d" % n), shared)
    promote(store, "a@2", "production")
    promote(store, "a@3", "production")
    store.close()
    assert collect(store, keep=1).releases == ("a@1",)
    add(store, b"loose")
    return store


def seen(store: Store) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in verify(store.root).problems]


def test_a_sound_store(sound: Store) -> None:
    found = verify(sound.root)
    assert found.problems == ()
    assert (found.releases, found.objects) == (2, OBJECTS)
    assert found.bytes == len(b"shared") + 2 * len(b"object 1") + len(b"loose")


def test_progress_reports_every_byte(sound: Store) -> None:
    told: list[int] = []
    assert verify(sound.root, told.append).bytes == sum(told)


@pytest.mark.parametrize("made", [0, 1, 4, len(layout.FOLDERS)])
def test_a_half_made_store_is_sound(tmp_path: Path, made: int) -> None:
    for name in layout.FOLDERS[:made]:
        (tmp_path / name).mkdir()
    assert verify(tmp_path).problems == ()


def test_an_empty_store_is_sound(store: Store) -> None:
    assert verify(store.root).problems == ()


def test_leftovers_of_killed_runs_are_not_damage(sound: Store) -> None:
    (sound.root / "staging" / "dead-run").mkdir()
    (sound.root / "staging" / "dead-run" / "half.onnx").write_bytes(b"half")
    (sound.root / "leases" / "dead").write_text("x\n")
    (sound.root / "locks" / "step").touch()
    (sound.root / "cache" / "index.json").write_bytes(b"torn")
    assert verify(sound.root).problems == ()


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotAStore):
        verify(tmp_path / "none")
    (tmp_path / "cat.jpg").touch()
    with pytest.raises(NotAStore):
        verify(tmp_path)


@pytest.mark.parametrize("change", ["flip", "truncate", "empty", "delete"])
def test_every_file_of_a_copy_is_missed(sound: Store, tmp_path: Path, change: str) -> None:
    """A partial copy: one file at a time is changed or lost, and exactly that file is reported."""
    kept = ("objects", "releases", "aliases", "ledger")
    files = [path for name in kept for path in sorted((sound.root / name).rglob("*")) if path.is_file()]
    # Objects, two releases and a tombstone, two moves of the alias, and an entry for each of these and for a@1.
    assert len(files) == OBJECTS + 3 + 2 + 6
    last = ledger.entry_path(sound.root, ledger.last(sound.root))
    for number, file in enumerate(files):
        copy = Path(shutil.copytree(sound.root, tmp_path / str(number)))
        path = copy / file.relative_to(sound.root)
        data = path.read_bytes()
        path.chmod(0o644)
        if change == "delete":
            path.unlink()
        else:
            path.write_bytes({"flip": data[:-1] + bytes([data[-1] ^ 4]), "truncate": data[:-1], "empty": b""}[change])
        where = path.parent if data == b"loose" else path  # without a release nobody knows the names of its files
        wanted = {where.relative_to(copy).as_posix()}
        if change == "delete" and file == last:
            wanted = set()  # as after a crash just before it was written: what it spoke of is there
        assert {problem.where for problem in verify(copy).problems} == wanted


def test_whom_a_damaged_object_concerns(sound: Store) -> None:
    shared = next((sound.root / "objects").rglob("shared.bin"))
    rewrite(shared, b"SHARED")
    (problem,) = verify(sound.root).problems
    assert problem == Problem(
        kind="damaged",
        where=shared.relative_to(sound.root).as_posix(),
        what=problem.what,
        object=shared.parents[1].name,
        releases=("a@2", "a@3"),
    )


def test_a_whole_object_that_is_gone(sound: Store) -> None:
    ref = sound.find("a@2").objects()[0]
    shutil.rmtree(place(sound, ref))
    assert seen(sound) == [("missing", place(sound, ref).relative_to(sound.root).as_posix())]


@pytest.mark.parametrize(
    "where",
    ["objects/stray", "objects/zz/stray", "objects/ab/" + "cd" * 32 + "/x", "releases/a/notes.txt"],
)
def test_what_does_not_belong_is_named(sound: Store, where: str) -> None:
    (sound.root / where).parent.mkdir(parents=True, exist_ok=True)
    (sound.root / where).write_bytes(b"x")
    ((kind, found),) = seen(sound)
    assert kind == "unexpected"
    assert where.startswith(found)


def test_a_file_too_many_in_an_object(sound: Store) -> None:
    ref = sound.find("a@3").objects()[0]
    (place(sound, ref) / "virus").write_bytes(b"x")
    assert seen(sound) == [("unexpected", f"objects/{ref.digest[:2]}/{ref.digest}/virus")]


def test_a_link_in_place_of_a_file(sound: Store, tmp_path: Path) -> None:
    ref = sound.find("a@3").objects()[0]
    path = place(sound, ref) / "a.bin"
    (tmp_path / "outside").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "outside")
    assert ("unexpected", path.relative_to(sound.root).as_posix()) in seen(sound)


def test_an_unreadable_file_is_damage_not_a_crash(sound: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from artifacts.store import verification

    def broken(_: Path) -> str:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(verification, "digest_file", broken)
    found = verify(sound.root).problems
    assert {problem.kind for problem in found} == {"damaged"}
    assert any("Input/output error" in problem.what for problem in found)


def test_a_swapped_manifest_is_found_by_the_alias(sound: Store) -> None:
    other = sound.find("a@3").model_copy(update={"created": "2027-01-01T00:00:00+00:00"})
    rewrite(layout.manifest_path(sound.root, "a", 3), other.to_bytes())
    assert seen(sound) == [("damaged", "releases/a/3.json")]


def test_a_store_that_lost_its_header_is_not_taken_for_a_half_made_one(sound: Store) -> None:
    for name in ("store.json", "publish.lock"):
        (sound.root / name).unlink()
    with pytest.raises(NotAStore):
        verify(sound.root)


@pytest.mark.parametrize("where", ["aliases/a/production/999999999.json", "ledger/999999/999999999.json"])
def test_a_stray_number_is_named_at_once(sound: Store, where: str) -> None:
    (sound.root / where).parent.mkdir(exist_ok=True)
    (sound.root / where).write_bytes(b"x")
    found = seen(sound)
    assert ("damaged", where) in found
    assert len(found) == 2  # itself, and the first number of the gap it makes
