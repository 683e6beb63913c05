"""Commands on a real release: the demo's, and a second one that differs from it in known ways."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from artifacts.release.measurements import measurements
from artifacts.store.store import Store
from artifacts.store.summary import summary
from tests.artifacts.support import sealed
from tests.conftest import CommandResult, run_clipsmith
from tests.deployments.conftest import Call

Clipsmith = Callable[..., CommandResult]


@pytest.fixture
def clipsmith(call: Call) -> Clipsmith:
    """The command, in this process."""
    return lambda *arguments: CommandResult(*call(*arguments))


@pytest.fixture(scope="module")
def two(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's store with a second release: another torch, and top-1 of FP8 one point lower."""
    root = Path(shutil.copytree(demo_store, tmp_path_factory.mktemp("two") / "store"))
    store = Store.open(root)
    first = store.find("demo@1")
    rows = tuple(
        row | {"value": float(row["value"] or 0) - 0.01}
        if (row["metric"], row["precision"]) == ("top1", "fp8")
        else row
        for row in first.tables["accuracy"]
    )
    provenance = first.provenance.model_copy(update={"packages": first.provenance.packages | {"torch": "9.9.9"}})
    changes = {"version": 2, "sequence": 2, "provenance": provenance, "tables": first.tables | {"accuracy": rows}}
    assert store.insert(sealed(first.model_copy(update=changes)))
    return root


def test_show_diff_history_and_export(clipsmith: Clipsmith, two: Path, tmp_path: Path) -> None:
    at = ("--store", two)
    manifests = [Store.open(two, writable=False).find(f"demo@{version}") for version in (1, 2)]

    shown = clipsmith("show", "demo@2", *at, "--json").document
    assert shown["release"] == json.loads(json.dumps(summary(manifests[1])))
    assert (shown["aliases"], shown["signatures"]) == ([], [])
    assert "demo@2" in clipsmith("show", "demo@2", *at).out

    found = clipsmith("diff", "demo@1", "demo@2", *at, "--json").document
    torch = manifests[0].provenance.packages["torch"]
    assert found["changes"] == {"packages": [{"name": "torch", "before": torch, "after": "9.9.9"}]}
    assert {row["metric"] for row in found["metrics"]} == {"top1"}
    assert all(row["change"] == pytest.approx(-0.01) for row in found["metrics"])
    assert f"{torch}" in clipsmith("diff", "demo@1", "demo@2", *at).out

    done = clipsmith("history", "--model", "demo", "--out", tmp_path / "history", *at, "--json").document
    frame = pd.read_parquet(done["table"])
    for manifest in manifests:
        part = frame[frame["version"] == manifest.version]
        assert part["value"].tolist() == [one.value for one in measurements(manifest.tables)]
    tops = [item["figures"]["top1 fp8"]["value"] for item in done["releases"]]
    assert tops[0] - tops[1] == pytest.approx(0.01)

    exported = clipsmith("export", "demo@1", tmp_path / "out", *at, "--json").document
    statement = json.loads((tmp_path / "out" / "provenance.intoto.json").read_bytes())
    for subject in statement["subject"]:
        data = (tmp_path / "out" / subject["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == subject["digest"]["sha256"]
    names = {subject["name"] for subject in statement["subject"]}
    assert names | {"provenance.intoto.json", "README.md"} == set(exported["files"])


def test_export_for_triton(clipsmith: Clipsmith, demo_store: Path, tmp_path: Path) -> None:
    done = clipsmith("export", "demo", "--layout", "triton", "--to", tmp_path / "out", "--store", demo_store, "--json")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert (done.code, set(done.document["files"])) == (0, found)
    assert {"demo-image/config.pbtxt", "demo-image/1/model.onnx", "demo-text/1/model.onnx"} <= found


@pytest.mark.heavy
def test_whoever_has_the_store_has_its_cache(demo_store: Path, tmp_path: Path) -> None:
    """A copy of it, with the settings and the database of another user."""
    store = shutil.copytree(demo_store, tmp_path / "store")
    done = run_clipsmith("optimize", "demo", "--store", store, PREFECT_HOME=str(tmp_path / "another"))
    assert done.code == 0, done.err
    assert done.err.count("(cached)") == done.err.count(" MiB") > 30
    assert done.out.splitlines()[-1] == "nothing new: this run's work is demo@1, published before"
    assert [release.ref for release in Store.open(store, writable=False).releases()] == ["demo@1"]
