"""Carrying releases to other stores from the command line: as one file, and object by object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifacts.manifest import Manifest
from artifacts.store import layout, signatures
from artifacts.store.store import Store
from tests.artifacts.support import key_pair
from tests.deployments.conftest import MODEL, Call, gate, release


@pytest.fixture
def releases(store: Store) -> list[Manifest]:
    """Three of one model, which are what they say."""
    return [release(store, version, gate("min_cosine_mean", "passed", version), sizes=False) for version in (1, 2, 3)]


def manifest_bytes(root: Path, version: int) -> bytes:
    return layout.manifest_path(root, MODEL, version).read_bytes()


def test_pack_and_unpack(call: Call, store: Store, releases: list[Manifest], tmp_path: Path) -> None:
    _, public = key_pair(tmp_path)
    signatures.sign(store, releases[1], tmp_path / "release.key", None)
    file, other = tmp_path / "release.tar", tmp_path / "other"
    code, out, _ = call("pack", f"{MODEL}@2", file, "--store", store.root, "--json")
    assert (code, json.loads(out)) == (
        0,
        {"schema": 1, "ref": f"{MODEL}@2", "file": str(file), "bytes": file.stat().st_size},
    )
    code, out, _ = call("unpack", file, "--store", other, "--json")
    assert (code, json.loads(out)) == (0, {"schema": 1, "ref": f"{MODEL}@2", "new": True})
    assert manifest_bytes(other, 2) == manifest_bytes(store.root, 2)
    assert call("check-signature", f"{MODEL}@2", "--key", public, "--store", other)[0] == 0
    assert call("verify", "--store", other)[0] == 0
    code, out, _ = call("unpack", file, "--store", other)
    assert (code, "unchanged" in out) == (0, True)
    code, out, err = call("pack", f"{MODEL}@2", file, "--store", store.root)
    assert (code, out) == (2, "")
    assert err.startswith("ExportTargetExists: ")
    assert "MB in" in call("pack", f"{MODEL}@2", tmp_path / "again.tar", "--store", store.root)[1]


@pytest.mark.parametrize(
    ("command", "error", "advice"),
    [
        ("pack", "ExportFailed", "give a file in a folder"),
        ("export", "ExportFailed", "give a folder on a disk"),
        ("push", "ReplicaError", "give a folder: a file is in its place"),
    ],
)
def test_a_file_where_a_folder_is_needed(
    command: str, error: str, advice: str, call: Call, store: Store, releases: list[Manifest], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    code, out, err = call(command, releases[0].ref, tmp_path / "file" / "below", "--store", store.root)
    assert (code, out) == (1, "") and err.startswith(f"{error}: ") and advice in err
    code, out, err = call("export", releases[0].ref, tmp_path / "file", "--store", store.root)
    assert (code, out) == (2, "") and "a file is where the export folder is to be" in err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.usefixtures("releases")
def test_an_altered_archive_is_refused(call: Call, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "release.tar"
    call("pack", MODEL, file, "--store", store.root)
    data = file.read_bytes()
    file.write_bytes(data.replace(b"graph 1", b"grapf 1"))
    code, out, err = call("unpack", file, "--store", tmp_path / "other", "--json")
    assert (code, out) == (2, "")
    assert err.startswith("BadArchive: ")
    assert json.loads(call("releases", "--store", tmp_path / "other", "--json")[1])["releases"] == []


@pytest.mark.usefixtures("releases")
def test_push_and_pull(call: Call, store: Store, tmp_path: Path) -> None:
    url, other = f"file://{tmp_path / 'copy'}", tmp_path / "other"
    code, out, _ = call("push", f"{MODEL}@1", url, "--store", store.root, "--json")
    document = json.loads(out)
    assert (code, document["ref"], document["release"], document["files"]) == (0, f"{MODEL}@1", True, 1)
    code, out, _ = call("push", f"{MODEL}@3", url, "--store", store.root)  # of the same object
    assert (code, out) == (
        0,
        f"{MODEL}@3: new release; 0 files copied (0.0 MB), 1 there already (0.000 MB)\n",
    )
    code, out, _ = call("pull", MODEL, url, "--store", other, "--json")
    document = json.loads(out)
    assert (code, document["ref"], document["release"], document["bytes"]) == (0, f"{MODEL}@3", True, 7)
    assert manifest_bytes(other, 3) == manifest_bytes(store.root, 3)
    code, out, _ = call("pull", f"{MODEL}@3", url, "--store", other)
    assert (code, "release known already; 0 files copied" in out) == (0, True)
    code, out, err = call("pull", f"{MODEL}@2", url, "--store", other, "--json")
    assert (code, out) == (2, "")
    assert "ReleaseNotFound: " in err


@pytest.mark.usefixtures("releases")
def test_credentials_in_a_url_are_refused_and_not_repeated(call: Call, store: Store) -> None:
    for command in ("push", "pull"):
        code, out, err = call(command, MODEL, "s3://key:hunter2@bucket/folder", "--store", store.root)
        assert (code, out) == (2, "")
        assert "ConfigError: " in err and "hunter2" not in err
