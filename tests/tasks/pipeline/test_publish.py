"""A release's identity is its content; publishing is the last thing that happens, once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from artifacts.errors import TableError
from artifacts.keeping import render
from artifacts.keeping.repair import repair
from artifacts.manifest import DataSource, GateResult
from artifacts.refs import ArtifactRef
from artifacts.schema import SCHEMAS
from artifacts.store import layout
from artifacts.store.store import Store
from tasks.checkpoints.snapshot import Snapshot
from tasks.pipeline.checkpoint import resolve
from tasks.pipeline.publish import Draft, Piece, publish
from tasks.quantizing.recipe import load_recipe


def kept(store: Store, name: str, content: bytes) -> ArtifactRef:
    with store.staging() as folder:
        (folder / name).write_bytes(content)
        return store.add("thing", folder)


def table_row(table: str, **values: Any) -> dict[str, Any]:
    defaults = {"str": "x", "int": 1, "float": 0.5}
    return {
        column.name: values.get(column.name, None if column.nullable else defaults[column.kind])
        for column in SCHEMAS[table].columns
    }


@pytest.fixture
def snapshot(store: Store, small_clip: Path) -> Snapshot:
    return resolve(str(small_clip), None, store)


@pytest.fixture
def draft(store: Store, snapshot: Snapshot) -> Draft:
    with store.staging() as folder:
        frame = pd.DataFrame({"quantizer": ["q"], "samples": [8], "amax": [1.0]})
        frame.to_parquet(folder / "convergence.parquet")
        calibration = store.add("calibration", folder)
    return Draft(
        snapshot=snapshot,
        calibration=DataSource(source="a", digest="1" * 64, samples=16),
        evaluation=DataSource(source="b", digest="2" * 64, samples=16),
        recipe=load_recipe("fp8"),
        parameters={"model": "x"},
        device={"cpu": "c"},
        pieces=(
            Piece(object=kept(store, "fp8.onnx", b"graph"), folder="image", encoder="image", precision="fp8"),
            Piece(object=calibration, folder="evidence/calibration-image"),
            Piece(object=kept(store, "cosines.json", b'{"image fp8 onnxruntime":[0.99,1.0]}'), folder="evidence"),
            Piece(object=kept(store, "latencies.json", b"{}"), folder="evidence/latency-image-onnxruntime"),
        ),
        tables={name: (table_row(name),) for name in SCHEMAS},
        gates=(GateResult(name="max_size_ratio", status="passed", max=0.98, value=0.5),),
        timings=(table_row("stages", step="resolve"),),
    )


def test_a_draft_becomes_a_release(store: Store, draft: Draft, small_clip: Path) -> None:
    published = publish(draft)
    assert (published.ref, published.new) == ("small@1", True)
    manifest = json.loads((store.root / "releases" / "small" / "1.json").read_bytes())
    files = {file["path"]: file for file in manifest["files"]}
    assert files.keys() == {
        "image/fp8.onnx",
        "report.html",
        "scripts/optimize.sh",
        "scripts/parameters.yaml",
        *(f"tables/{name}.parquet" for name in SCHEMAS),
        "evidence/calibration-image/convergence.parquet",
        "evidence/cosines.json",
        "evidence/latency-image-onnxruntime/latencies.json",
    }
    assert (files["image/fp8.onnx"]["encoder"], files["image/fp8.onnx"]["precision"]) == ("image", "fp8")
    assert [row["step"] for row in manifest["tables"]["stages"]] == ["resolve", "x"]
    provenance = manifest["provenance"]
    assert provenance["source"]["name"] == str(small_clip)
    assert provenance["recipe_digest"] == load_recipe("fp8").digest
    assert (provenance["calibration"]["samples"], provenance["evaluation"]["samples"]) == (16, 16)


def test_a_rejected_draft_is_a_release_too(draft: Draft, store: Store) -> None:
    failed = draft.gates[0].model_copy(update={"status": "failed", "max": 0.4})
    manifest = store.find(publish(draft.model_copy(update={"gates": (failed,)})).ref)
    assert (manifest.status, manifest.gates) == ("rejected", (failed,))
    assert "Rejected." in store.read(manifest, "report.html").read_text()


def test_the_same_draft_is_the_same_release(draft: Draft, store: Store) -> None:
    first = publish(draft)
    costs = {
        "timings": (table_row("stages", step="resolve", wall_s=99.0),),
        "parameters": {"model": "y"},
        "device": {"cpu": "d"},
        "tables": draft.tables | {"stages": (table_row("stages", wall_s=7.0),)},
    }
    for change in ({}, costs):
        again = publish(draft.model_copy(update=change))
        assert (again.ref, again.identity, again.new) == (first.ref, first.identity, False)
    assert len(store.releases()) == 1


def test_everything_else_makes_another_release(draft: Draft, store: Store) -> None:
    other_piece = Piece(object=kept(store, "fp8.onnx", b"another"), folder="image")
    changes: list[dict[str, Any]] = [
        {"calibration": DataSource(source="a", digest="3" * 64, samples=16)},
        {"calibration": None},
        {"evaluation": DataSource(source="b", digest="3" * 64, samples=16)},
        {"recipe": load_recipe("fp8-no-attention")},
        {"recipe": None},
        {"pieces": (other_piece,)},
        {"pieces": (draft.pieces[0].model_copy(update={"folder": "text"}),)},
        {"snapshot": draft.snapshot.model_copy(update={"digest": "0" * 64})},
        {"tables": draft.tables | {"accuracy": (table_row("accuracy", value=0.25),)}},
        {"gates": (draft.gates[0].model_copy(update={"max": 0.4, "status": "failed"}),)},
        {"gates": ()},
    ]
    made = [publish(draft)] + [publish(draft.model_copy(update=change)) for change in changes]
    assert [published.ref for published in made] == [f"small@{n}" for n in range(1, len(changes) + 2)]
    assert all(published.new for published in made)


def test_a_row_that_is_not_of_its_table_publishes_nothing(draft: Draft, store: Store) -> None:
    broken = draft.tables | {"latency": (table_row("latency", status="emulated", speedup=2.0),)}
    with pytest.raises(TableError, match="speed"):
        publish(draft.model_copy(update={"tables": broken}))
    assert store.releases() == []
    assert publish(draft).ref == "small@1"


def test_the_report_shows_the_evidence_and_can_be_made_again_from_the_release(draft: Draft, store: Store) -> None:
    """P14: what is derived is derived from what is kept."""
    manifest = store.find(publish(draft).ref)
    for kind in (render.TABLES, render.REPORT):
        (ref,) = (ref for ref in manifest.objects() if ref.kind == kind)
        folder = layout.object_folder(store.root, ref.digest)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        shutil.rmtree(folder)
        assert repair(store).restored == (ref.digest,)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert render.evidence_of(store, manifest).cosines == {"image fp8 onnxruntime": [0.99, 1.0]}
    assert render.evidence_of(store, manifest).convergence == [{"quantizer": "q", "samples": 8, "amax": 1.0}]
