"""Exports: a plain folder with all that is needed to check where it came from, or nothing at all."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts import places
from artifacts.copies.exporting import export
from artifacts.errors import DamagedSignature, ExportTargetExists, ObjectDamaged, ObjectMissing
from artifacts.store import layout, signatures, signing
from artifacts.store.store import Store
from tests.artifacts.support import add, digest, key_pair, make_release, place, rewrite


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_an_export_is_the_release_and_where_it_came_from(store: Store, tmp_path: Path) -> None:
    manifest, _ = make_release(store, "a", digest("1"), add(store, b"bytes", "deep/a.bin"))
    (tmp_path / "out").mkdir()
    written = export(store, manifest, tmp_path / "out")
    assert (tmp_path / "out" / "image" / "deep" / "a.bin").read_bytes() == b"bytes"
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest.to_bytes()
    statement = json.loads((tmp_path / "out" / "provenance.intoto.json").read_bytes())
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    assert subjects.keys() == {"image/deep/a.bin", "manifest.json"}
    for name, sha256 in subjects.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == sha256
    assert files_below(tmp_path / "out") == set(written) == {*subjects, "provenance.intoto.json"}


def test_an_exported_release_is_checked_with_the_signing_librarys_own_command(store: Store, tmp_path: Path) -> None:
    manifest, _ = make_release(store, "a", digest("1"), add(store, b"bytes"))
    private, public = key_pair(tmp_path)
    for _ in range(2):
        signatures.sign(store, manifest, private, None)
    export(store, manifest, tmp_path / "out", readme="how to load it")
    assert {"README.md", "signatures/1.json", "signatures/2.json"} <= files_below(tmp_path / "out")

    def check() -> int:
        place = ("--signature", tmp_path / "out" / "signatures" / "2.json", "--public_key", public)
        call = [sys.executable, "-m", "model_signing", "verify", "key", tmp_path / "out", *place]
        return subprocess.run(call, capture_output=True, check=False).returncode

    assert check() == 0
    (tmp_path / "out" / "image" / "a.bin").write_bytes(b"bites")
    assert check() != 0


def test_beside_a_signature_of_before_there_is_no_readme(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not let a folder hold one, and so would not be found to hold."""
    manifest, _ = make_release(store, "a", digest("1"), add(store, b"bytes"))
    private, public = key_pair(tmp_path)
    signatures.sign(store, manifest, private, None)
    monkeypatch.setattr(signing, "_NOT_COVERED", (places.PROVENANCE, places.SIGNATURES))
    signatures.sign(store, manifest, private, None)
    written = export(store, manifest, tmp_path / "out", readme="how to load it")
    assert "README.md" not in {*written, *files_below(tmp_path / "out")}
    place = ("--signature", tmp_path / "out" / "signatures" / "2.json", "--public_key", public)
    call = [sys.executable, "-m", "model_signing", "verify", "key", tmp_path / "out", *place]
    subprocess.run(call, capture_output=True, check=True)


def test_a_damaged_signature_is_not_exported_and_neither_is_the_rest(store: Store, tmp_path: Path) -> None:
    manifest, _ = make_release(store, "a", digest("1"), add(store))
    (tmp_path / "keys").mkdir()
    signatures.sign(store, manifest, key_pair(tmp_path / "keys")[0], None)
    path = layout.signature_folder(store.root, "a", 1) / "1.json"
    rewrite(path, path.read_bytes().replace(b"who", b"wha"))
    with pytest.raises(DamagedSignature):
        export(store, manifest, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys", "store"]


def test_export_refuses_what_is_in_the_way(store: Store, tmp_path: Path) -> None:
    manifest, _ = make_release(store, "a", digest("1"), add(store))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file"):
        with pytest.raises(ExportTargetExists, match=name):
            export(store, manifest, tmp_path / name)
    assert (tmp_path / "full" / "mine").read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "store"]


def test_export_of_a_damaged_release_leaves_nothing(store: Store, tmp_path: Path) -> None:
    ref = add(store)
    manifest, _ = make_release(store, "a", digest("1"), ref)
    rewrite(place(store, ref) / "a.bin", b"kontent")
    with pytest.raises(ObjectDamaged, match=r"image/a\.bin"):
        export(store, manifest, tmp_path / "out")
    with pytest.raises(ObjectDamaged):
        store.read(manifest, "image/a.bin")
    (place(store, ref) / "a.bin").unlink()
    with pytest.raises(ObjectMissing):
        export(store, manifest, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    with pytest.raises(KeyError, match="no file"):
        store.read(manifest, "image/b.bin")
