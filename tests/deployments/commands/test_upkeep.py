"""`verify` and `gc` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifacts.manifest import Manifest
from artifacts.store import layout
from artifacts.store.store import Store
from tests.artifacts.support import add, place, rewrite
from tests.deployments.conftest import MODEL, Call


def object_file(store: Store, manifest: Manifest) -> Path:
    file = manifest.files[0]
    return layout.object_folder(store.root, file.object) / file.member


def test_a_sound_store(call: Call, store: Store, releases: list[Manifest]) -> None:
    add(store, b"nobody's")
    code, out, _ = call("verify", "--store", store.root, "--json")
    document = json.loads(out)
    assert (code, document["sound"], document["problems"]) == (0, True, [])
    size = sum({file.object: file.size for manifest in releases for file in manifest.files}.values()) + len("nobody's")
    assert (document["releases"], document["objects"], document["bytes"]) == (3, 3, size)
    code, out, err = call("verify", "--store", store.root)
    assert err == "", "no bar where nobody sees it move"
    assert (code, out.startswith("sound: 3 releases, 3 objects, ")) == (0, True)


def test_damage_is_named_with_what_to_do(call: Call, store: Store, releases: list[Manifest]) -> None:
    damaged, lost = object_file(store, releases[0]), object_file(store, releases[1])
    rewrite(damaged, b"grapf 1")
    lost.unlink()
    code, out, _ = call("verify", "--store", store.root, "--json")
    problems = {problem["where"]: problem for problem in json.loads(out)["problems"]}
    where = {path.relative_to(store.root).as_posix(): kind for path, kind in ((damaged, "damaged"), (lost, "missing"))}
    assert code == 1
    assert {name: problem["kind"] for name, problem in problems.items()} == where
    damage = problems[damaged.relative_to(store.root).as_posix()]
    assert damage["releases"] == [f"{MODEL}@1", f"{MODEL}@3"]
    assert "clipsmith optimize" in damage["next"]
    code, out, _ = call("verify", "--store", store.root)
    assert code == 1
    for name, kind in where.items():
        assert f"{kind} {name}" in out
    assert "not sound: 1 missing, 1 damaged" in out and out.count("  next: ") == 2


def test_repair_restores_and_sets_aside(call: Call, store: Store, releases: list[Manifest]) -> None:
    damaged = object_file(store, releases[0])
    rewrite(damaged, b"grapf 1")
    code, out, _ = call("verify", "--repair", "--store", store.root, "--json")
    document = json.loads(out)
    assert (code, document["sound"], document["restored"]) == (1, False, [])  # nothing has these bytes any more
    assert document["quarantined"] == [damaged.parent.relative_to(store.root).as_posix()]
    assert [problem["kind"] for problem in document["problems"]] == ["missing"]
    ref = add(store, b"graph 1", "fp8.onnx")
    assert place(store, ref) == damaged.parent
    assert call("verify", "--repair", "--store", store.root)[0] == 0
    # The same bytes in another object: damage that can be undone.
    add(store, b"graph 1", "copy.onnx")
    rewrite(damaged, b"grapf 1")
    code, out, _ = call("verify", "--repair", "--store", store.root)
    assert code == 0
    assert f"restored object {ref.digest[:12]}" in out and "sound: " in out
    assert damaged.read_bytes() == b"graph 1"


def test_what_is_no_damage(call: Call, store: Store, tmp_path: Path) -> None:
    half = tmp_path / "half"
    (half / "objects").mkdir(parents=True)
    (store.root / "staging" / "left-by-a-killed-run").mkdir()
    for root in (store.root, half):
        code, out, _ = call("verify", "--store", root)
        assert (code, out.startswith("sound: 0 releases")) == (0, True)
    code, out, err = call("verify", "--repair", "--store", tmp_path / "none", "--json")
    assert (code, out) == (2, "")
    assert err.lstrip().startswith("NotAStore: ")
    assert not (tmp_path / "none").exists()


def test_a_damaged_header_is_damage_and_not_a_wrong_path(call: Call, store: Store) -> None:
    header = store.root / "store.json"
    header.chmod(0o644)
    header.write_bytes(header.read_bytes().replace(b'"format":1', b'"format": 1'))
    code, out, err = call("verify", "--store", store.root)
    assert (code, out) == (1, "")
    assert err.lstrip().startswith("DamagedHeader: ")


@pytest.mark.usefixtures("releases")
def test_gc_tells_first_and_keeps_what_an_alias_holds(call: Call, store: Store) -> None:
    stray = place(store, add(store, b"nobody's"))
    store.close()  # what this process added is held until then
    call("promote", f"{MODEL}@1", "--alias", "production", "--store", store.root)
    at = ("--keep", "1", "--store", store.root)
    code, out, _ = call("gc", *at, "--dry-run", "--json")
    planned = json.loads(out)
    assert (code, planned["dry_run"], planned["releases"]) == (0, True, [f"{MODEL}@2"])
    assert stray.name in planned["objects"] and stray.exists()
    lines = call("gc", *at, "--dry-run")[1].splitlines()
    assert lines[0] == f"would retire {MODEL}@2"
    assert f"would remove object {stray.name[:12]}: {next(stray.iterdir()).name}" in lines
    assert lines[-1].startswith("would remove 1 release, 2 objects, ") and len(lines) == 4
    code, out, _ = call("gc", *at)
    assert code == 0
    assert out.startswith(f"retired {MODEL}@2\nremoved 1 release, 2 objects, ")
    assert not stray.exists()
    left = json.loads(call("releases", "--store", store.root, "--json")[1])["releases"]
    assert [item["version"] for item in left] == [3, 1]
    assert call("verify", "--store", store.root)[0] == 0
    code, out, err = call("show", f"{MODEL}@2", "--store", store.root)
    assert (code, out) == (2, "")
    assert "retired" in err


@pytest.mark.usefixtures("releases")
def test_gc_keeps_at_least_one(call: Call, store: Store) -> None:
    code, out, err = call("gc", "--keep", "0", "--store", store.root)
    assert (code, out) == (2, "")
    assert err.startswith("ConfigError: ")
