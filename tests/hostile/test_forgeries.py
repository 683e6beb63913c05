"""Things made to look like ours, and recipes that ask for what graphs cannot hold."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifacts.errors import ConfigError, UnsafeCheckpoint
from artifacts.manifest import Manifest
from artifacts.store.store import Store
from tasks.checkpoints.snapshot import STATE_FILE
from tasks.pipeline.checkpoint import resolve
from tasks.quantizing.modelopt import EAGER, insert_quantizers, load_plain
from tasks.quantizing.recipe import BUILTIN, load_recipe


def _forged_export(demo_export: Path, folder: Path, state: bytes) -> Path:
    """An export whose pickle was replaced, with a manifest that says so with all digests right."""
    shutil.copytree(demo_export, folder)
    path = folder / "checkpoint" / STATE_FILE
    path.chmod(0o644)
    path.write_bytes(state)
    manifest = Manifest.from_bytes((folder / "manifest.json").read_bytes(), where="x")
    files = tuple(
        file.model_copy(update={"sha256": hashlib.sha256(state).hexdigest(), "size": len(state)})
        if file.path == f"checkpoint/{STATE_FILE}"
        else file
        for file in manifest.files
    )
    (folder / "manifest.json").chmod(0o644)
    (folder / "manifest.json").write_bytes(manifest.model_copy(update={"files": files}).to_bytes())
    return folder / "checkpoint"


def test_a_state_that_only_a_forged_manifest_vouches_for_is_never_passed_on(
    demo_export: Path, store: Store, tmp_path: Path
) -> None:
    checkpoint = _forged_export(demo_export, tmp_path / "forged", b"cos\nsystem\n(S'echo PWNED'\ntR.")
    snapshot = resolve(str(checkpoint), None, store)
    assert snapshot.calibrated
    assert not snapshot.carries_state
    assert STATE_FILE not in {file.path for file in snapshot.files}


def test_a_changed_state_without_a_manifest_is_refused(demo_export: Path, store: Store, tmp_path: Path) -> None:
    shutil.copytree(demo_export / "checkpoint", tmp_path / "copied")
    with pytest.raises(UnsafeCheckpoint, match="no release vouches for"):
        resolve(str(tmp_path / "copied"), None, store)


@pytest.mark.parametrize(
    "rule",
    [
        {"quantizer_name": "*layer_norm1.input_quantizer", "cfg": {"num_bits": "e4m3"}},
        {"quantizer_name": "*output_quantizer", "parent_class": "nn.Linear", "cfg": {"num_bits": "e4m3"}},
    ],
)
def test_a_recipe_that_the_graph_cannot_hold_is_refused(
    rule: dict[str, Any], small_clip: Path, store: Store, tmp_path: Path
) -> None:
    content = yaml.safe_load((BUILTIN / "fp8.yaml").read_text())
    content["quantize"]["quant_cfg"].append(rule)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    snapshot = resolve(str(small_clip), None, store)
    model, _ = load_plain(snapshot, EAGER)
    with pytest.raises(ConfigError, match=r"enables .*_quantizer"):
        insert_quantizers(model, snapshot, load_recipe(str(tmp_path / "mine.yaml")), ("image",), None)


def test_switching_a_quantizer_on_without_saying_how_is_refused(tmp_path: Path) -> None:
    content = yaml.safe_load((BUILTIN / "fp8.yaml").read_text())
    content["quantize"]["quant_cfg"].append({"quantizer_name": "*mlp.fc2.*", "enable": True})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="enable"):
        load_recipe(str(tmp_path / "mine.yaml"))


def test_a_lost_report_is_made_again(demo_store: Path, tmp_path: Path, clipsmith: Callable[..., Any]) -> None:
    shutil.copytree(demo_store, tmp_path / "store")
    manifest = Store.open(tmp_path / "store", writable=False).find("demo@1")
    report = next(file for file in manifest.files if file.path == "report.html")
    place = tmp_path / "store" / "objects" / report.object[:2] / report.object / report.member
    place.unlink()
    result = clipsmith("optimize", "demo", "--store", tmp_path / "store", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["ref"] == "demo@1"
    assert hashlib.sha256(place.read_bytes()).hexdigest() == report.sha256


def test_code_in_the_working_directory_is_not_run(demo_export: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from tasks.engines import BatchProfile
    from tasks.engines.child import Job, build_in_child

    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("raise SystemExit('HIJACKED')")
    monkeypatch.chdir(tmp_path)
    engine = tmp_path / "fp16.engine"
    onnx = demo_export / "text" / "fp16.onnx"
    build_in_child(Job(onnx=onnx, engine=engine, target="onnxruntime", profile=BatchProfile()))
    assert engine.stat().st_size > 100_000
