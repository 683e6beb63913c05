"""Kinds that are run by transformers' classes compute what OpenCLIP and timm compute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModel

from artifacts.errors import BadWeights, CheckpointError, UnsupportedVariant
from artifacts.store.store import Store
from tasks.checkpoints.snapshot import Snapshot
from tasks.data.pinned import pin_data
from tasks.openclip.architectures import TIMM
from tasks.openclip.document import CONFIG_FILE, WEIGHTS_FILE
from tasks.pipeline.calibration import calibrate
from tasks.pipeline.checkpoint import check, resolve
from tasks.pipeline.graph_audit import audit
from tasks.pipeline.onnx_export import export_fp8, export_fp16, trace_encoder
from tasks.pipeline.quantization import quantize
from tasks.quantizing.modelopt import load_plain
from tasks.quantizing.recipe import load_recipe
from tests.tasks.families.support import ENCODERS, cosines, run_onnx, tensors
from tests.tasks.openclip.support import ARCHIVES, Golden, add_tokenizer, golden, shrunk
from tests.wording import refusal

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
def test_fp32_is_openclips(name: str, exposed: bool, tmp_path: Path) -> None:
    given = golden(name, tmp_path)
    assert given.kind.name == KINDS[name]
    loaded = given.kind.load(given.folder, given.config, "eager")
    if exposed:
        given.kind.expose(loaded)
    for encoder in ENCODERS:
        with torch.no_grad():
            got = given.kind.encode(loaded, encoder, *tensors(given.feeds[encoder])).numpy()
        assert cosines(got, given.expected[encoder]).min() >= 0.999999
        assert np.abs(got - given.expected[encoder]).max() < 5e-6


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.heavy] if name in _AGAIN else []) for name in KINDS])
def model(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> tuple[Golden, Snapshot]:
    """One golden model with a tokenizer, and its snapshot."""
    made = golden(request.param, tmp_path / "model")
    add_tokenizer(request.param, made.folder)
    with shrunk(made.folder):
        snapshot = resolve(str(made.folder), None, store)
    assert snapshot.family == KINDS[request.param]
    return made, snapshot


def test_graphs_are_openclips(model: tuple[Golden, Snapshot], store: Store) -> None:
    """Checked, traced by block, exported in FP16, audited, and run by ONNX Runtime."""
    given, snapshot = model
    checked = check(snapshot)
    assert "tokenizer.json" in {path.name for path in store.path(checked.preprocess).iterdir()}
    for encoder in ENCODERS:
        skeleton = trace_encoder(snapshot.family, snapshot.stored_config, encoder).skeleton
        exported = export_fp16(snapshot, skeleton, encoder).onnx
        found = audit(exported, skeleton, "fp16", None)
        assert found.encoder_row["layers"] == 2
        got = run_onnx(store.path(exported, "fp16.onnx"), given.feeds[encoder])
        expected = given.expected[encoder]
        assert cosines(got, expected).min() >= 0.99999
        assert cosines(got, np.roll(expected, 1, axis=0)).max() < 0.99


@pytest.mark.heavy
def test_everything_becomes_fp8_and_is_published(model: tuple[Golden, Snapshot], store: Store) -> None:
    """Every linear layer and attention product, and the checkpoint that is published computes what OpenCLIP does."""
    given, snapshot = model
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
        got = published.get_image_features(*tensors(given.feeds["image"])).pooler_output.numpy()
    assert cosines(got, given.expected["image"]).min() >= 0.97


def test_timms_architectures_are_as_timm_builds_them() -> None:
    facts = json.loads((ARCHIVES / "timm.json").read_text())
    ours = {
        name: {
            "width": tower.width,
            "layers": tower.layers,
            "heads": tower.heads,
            "patch_size": tower.patch,
            "image_size": tower.image_size,
            "inner": tower.mlp_width,
            "activation": tower.activation,
            "eps": tower.eps,
        }
        for name, tower in TIMM.items()
        if tower.image_size is not None
    }
    assert ours == facts


def edited(folder: Path, drop: str | None = None, **vision: object) -> Path:
    """The folder with other settings of the image tower, or without the tensors whose names hold `drop`."""
    path = folder / CONFIG_FILE
    document = json.loads(path.read_text())
    document["model_cfg"]["vision_cfg"] |= vision
    path.write_text(json.dumps(document))
    if drop is not None:
        state = load_file(folder / WEIGHTS_FILE)
        save_file({name: value for name, value in state.items() if drop not in name}, folder / WEIGHTS_FILE)
    return folder


@pytest.fixture
def scaled(tmp_path: Path) -> Path:
    """A model whose blocks have a layer scale."""
    folder = golden("layer_scale", tmp_path / "model").folder
    add_tokenizer("layer_scale", folder)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": "ls_1.gamma"}, "2 layer scales are stored for vision_config, which asks for 4"),
        ({"ls_init_value": None}, "4 layer scales are stored for vision_config, which asks for 0"),
    ],
)
def test_layer_scales_are_there_as_the_document_says(
    changes: dict[str, object], message: str, scaled: Path, store: Store
) -> None:
    folder = edited(scaled, **changes)  # type: ignore[arg-type]
    with pytest.raises(BadWeights, match=message):
        check(resolve(str(folder), None, store))


@pytest.mark.parametrize("name", ["layer_scale", "coca_scaled"])
def test_layer_scales_that_the_document_asks_for_go_through(name: str, tmp_path: Path, store: Store) -> None:
    made = golden(name, tmp_path / "model")
    add_tokenizer(name, made.folder)
    with shrunk(made.folder):
        assert check(resolve(str(made.folder), None, store)).tensors > 0


def test_the_losss_scale_may_be_missing(scaled: Path, store: Store) -> None:
    with_it = load_plain(resolve(str(scaled), None, store), "eager")[0].state_dict()
    snapshot = resolve(str(edited(scaled, drop="logit_scale")), None, store)
    assert check(snapshot).tensors == len(with_it) - 1
    without = load_plain(snapshot, "eager")[0].state_dict()
    assert without.keys() == with_it.keys()
    assert all(torch.equal(without[name], with_it[name]) for name in with_it if name != "logit_scale")


@pytest.mark.parametrize(
    "vision",
    [
        {"norm_eps": 1e-3},
        {"pos_embed": "rope"},
        {"reg_tokens": 4},
        {"attention_mode": "causal"},
        {"head_width": 0},
        {"width": "64"},
        {"image_size": []},
        {"timm_model_name": ["a"]},
    ],
)
def test_settings_that_are_odd_or_unknown_are_refused(vision: dict[str, object], scaled: Path, store: Store) -> None:
    with pytest.raises(CheckpointError) as caught:
        check(resolve(str(edited(scaled, **vision)), None, store))  # type: ignore[arg-type]
    assert len(caught.value.what.splitlines()) == 1


def test_unknown_settings_of_pictures_are_refused(scaled: Path, store: Store) -> None:
    path = scaled / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"preprocess_cfg": {"crop_pct": 0.875}}))
    with refusal(UnsupportedVariant, "open_clip_config.json"):
        resolve(str(scaled), None, store)
