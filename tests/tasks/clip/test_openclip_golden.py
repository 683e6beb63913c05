"""Kinds that are run by transformers' classes compute what OpenCLIP and timm compute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from artifacts.store.store import Store
from tasks.clip import openclip
from tasks.clip.openclip_siglip import TOWERS
from tasks.data.pinned import pin_data
from tasks.pipeline.calibration import calibrate
from tasks.pipeline.checkpoint import check, resolve
from tasks.pipeline.graph_audit import audit
from tasks.pipeline.onnx_export import export_fp8, export_fp16, trace_encoder
from tasks.pipeline.quantization import quantize
from tasks.quantizing.recipe import load_recipe
from tests.tasks.clip.openclip_golden import ARCHIVES, Golden, add_tokenizer, golden, shrink
from tests.tasks.families.support import ENCODERS, cosines, run_onnx

KINDS = {
    "siglip": "openclip_siglip",
    "siglip2": "openclip_siglip",
    "worldwide": "openclip_metaclip2",
    "layer_scale": "openclip",
}
_AGAIN = ("siglip2", "layer_scale")
"""Kinds whose graphs others have too."""


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_fp32_is_openclips(name: str, exposed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = golden(name, tmp_path)
    shrink(model.folder, monkeypatch)
    kind, stored = openclip.identify(model.folder)
    assert kind.name == KINDS[name]
    loaded = kind.load(model.folder, kind.resolve_config(stored), "eager")
    if exposed:
        kind.expose(loaded)
    with torch.no_grad():
        for encoder, given, expected in (("image", model.pixels, model.image), ("text", model.ids, model.text)):
            got = kind.encode(loaded, encoder, torch.from_numpy(given)).numpy()
            assert cosines(got, expected).min() >= 0.999999
            assert np.abs(got - expected).max() < 5e-6


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.heavy] if name in _AGAIN else []) for name in KINDS])
def model(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Golden]:
    """The name and the files of one golden model, with a tokenizer."""
    made = golden(request.param, tmp_path / "model")
    shrink(made.folder, monkeypatch)
    add_tokenizer(request.param, made.folder)
    return request.param, made


def test_graphs_are_openclips(model: tuple[str, Golden], store: Store) -> None:
    """Checked, traced by block, exported in FP16, audited, and run by ONNX Runtime."""
    name, given = model
    snapshot = resolve(str(given.folder), None, store)
    assert snapshot.family == KINDS[name]
    checked = check(snapshot)
    assert "tokenizer.json" in {path.name for path in store.path(checked.preprocess).iterdir()}
    feeds = {"image": {"pixel_values": given.pixels.astype(np.float16)}, "text": {"input_ids": given.ids}}
    for encoder in ENCODERS:
        skeleton = trace_encoder(snapshot.family, snapshot.stored_config, encoder).skeleton
        exported = export_fp16(snapshot, skeleton, encoder).onnx
        found = audit(exported, skeleton, "fp16", None)
        assert found.encoder_row["layers"] == 2
        got = run_onnx(store.path(exported, "fp16.onnx"), feeds[encoder])
        expected = getattr(given, encoder)
        assert cosines(got, expected).min() >= 0.99999
        assert cosines(got, np.roll(expected, 1, axis=0)).max() < 0.99


@pytest.mark.heavy
def test_everything_becomes_fp8_and_is_published(model: tuple[str, Golden], store: Store) -> None:
    """Every linear layer and attention product, and the checkpoint that is published computes what OpenCLIP does."""
    _, given = model
    snapshot = resolve(str(given.folder), None, store)
    checked, recipe = check(snapshot), load_recipe("fp8-compact")
    data, _ = pin_data("digits", "calibration", 24)
    tables = {e: calibrate(snapshot, checked.preprocess, data, recipe, e, 8).table for e in ENCODERS}
    for encoder in ENCODERS:
        skeleton = trace_encoder(snapshot.family, snapshot.stored_config, encoder).skeleton
        found = audit(export_fp8(snapshot, skeleton, encoder, recipe, tables[encoder]).onnx, skeleton, "fp8", recipe)
        assert {row["kind"] for row in found.coverage if row["actual"] == "fp16"} <= {"conv", "embedding"}
    quantized = quantize(snapshot, checked.preprocess, recipe, tables)
    published = AutoModel.from_pretrained(store.path(quantized.checkpoint), dtype=torch.float32).eval()
    with torch.no_grad():
        got = published.get_image_features(torch.from_numpy(given.pixels)).pooler_output.numpy()
    assert cosines(got, given.image).min() >= 0.97


def test_timms_architectures_are_as_timm_builds_them() -> None:
    facts = json.loads((ARCHIVES / "timm.json").read_text())
    ours = {
        name: {
            "width": tower.width,
            "layers": tower.layers,
            "heads": tower.heads,
            "patch_size": tower.patch_size,
            "image_size": tower.image_size,
            "inner": tower.config["intermediate_size"],
            "activation": tower.activation,
            "eps": tower.config["layer_norm_eps"],
        }
        for name, tower in TOWERS.items()
    }
    assert ours == facts
