"""Towers of our own through the steps: checked, exported, calibrated, quantized, published and published again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts.errors import BadWeights
from artifacts.store.store import Store
from tasks.data.pinned import pin_data
from tasks.evaluation.kept_embeddings import EMBEDDINGS_FILE
from tasks.families import family_named
from tasks.pipeline.calibration import calibrate
from tasks.pipeline.checkpoint import check, resolve
from tasks.pipeline.embedding import embed
from tasks.pipeline.graph_audit import audit
from tasks.pipeline.onnx_export import export_fp8, export_fp16, trace_encoder
from tasks.pipeline.quantization import quantize
from tasks.quantizing.modelopt import load_exposed
from tasks.quantizing.recipe import load_recipe
from tests.tasks.families.support import ENCODERS, cosines, run_onnx, tensors
from tests.tasks.openclip.support import Golden, add_tokenizer, golden, shrunk
from tests.wording import refusal


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.heavy) for name in ("biomed", "eva02")],
)
def test_steps(name: str, tmp_path: Path, store: Store) -> None:
    given = golden(name, tmp_path / "model")
    add_tokenizer(name, given.folder)
    with shrunk(given.folder):
        snapshot = resolve(str(given.folder), None, store)
    assert snapshot.family == "openclip_towers"
    checked, recipe = check(snapshot), load_recipe("fp8-compact")
    data, _ = pin_data("digits", "calibration", 24)
    tables = {e: calibrate(snapshot, checked.preprocess, data, recipe, e, 8).table for e in ENCODERS}
    evaluation, _ = pin_data("digits", "evaluation", 11)
    for encoder in ENCODERS:
        skeleton = trace_encoder(snapshot.family, snapshot.stored_config, encoder).skeleton
        exported = export_fp16(snapshot, skeleton, encoder).onnx
        audit(exported, skeleton, "fp16", None)
        got = run_onnx(store.path(exported, "fp16.onnx"), given.feeds[encoder])
        assert cosines(got, given.expected[encoder]).min() >= 0.9999
        found = audit(export_fp8(snapshot, skeleton, encoder, recipe, tables[encoder]).onnx, skeleton, "fp8", recipe)
        assert {row["kind"] for row in found.coverage if row["actual"] == "fp16"} <= {"conv", "embedding"}
        common = (snapshot, checked.preprocess, evaluation, encoder)
        rows = [
            np.load(store.path(embed(*common, precision, runtime, ref, 8).outputs, EMBEDDINGS_FILE))
            for precision, runtime, ref in (("fp32", "pytorch", None), ("fp16", "onnxruntime", exported))
        ]
        assert cosines(rows[1], rows[0]).min() >= 0.999
    quantized = store.path(quantize(snapshot, checked.preprocess, recipe, tables).checkpoint)
    published = tmp_path / "published"
    published.mkdir()
    for file in ("config.json", "model.safetensors"):  # without ModelOpt's state, which only releases may have
        shutil.copyfile(quantized / file, published / file)
    again(given, resolve(str(published), None, store))


def again(given: Golden, snapshot: Any) -> None:
    """A checkpoint that was published is a model of the same family with the same weights."""
    assert (snapshot.family, snapshot.config) == ("openclip_towers", given.config)
    model, family = load_exposed(snapshot)
    for encoder in ENCODERS:
        with torch.no_grad():
            got = family.encode(model, encoder, *tensors(given.feeds[encoder])).numpy()
        assert np.abs(got - given.expected[encoder]).max() < 1e-5


def test_a_missing_tensor_is_named(tmp_path: Path, store: Store) -> None:
    from safetensors.numpy import load_file, save_file

    given = golden("eva02", tmp_path / "model")
    add_tokenizer("eva02", given.folder)
    file = given.folder / "open_clip_model.safetensors"
    state = load_file(file)
    del state["visual.trunk.blocks.1.mlp.fc1_g.weight"]
    save_file(state, file)
    with shrunk(given.folder):
        snapshot = resolve(str(given.folder), None, store)
    with refusal(BadWeights, "model"):
        check(snapshot)


def test_it_is_registered() -> None:
    assert family_named("openclip_towers").model_types == ("openclip_towers",)
