"""Towers of our own compute what OpenCLIP's and timm's classes compute: in FP32, as FP16 graphs, and in FP8."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tasks.clip.base import Piece
from tasks.clip.weights import WeightReader
from tasks.file_names import RECIPE_KEY
from tasks.graph.quantize import quantize
from tasks.graph.replicate import trace_by_block
from tasks.graph.skeleton import Skeleton
from tasks.graph.tracing import trace
from tasks.graph.writer import write_onnx
from tasks.openclip.document import Document
from tasks.openclip.towers import OpenClipTowers
from tasks.openclip.towers_config import towers_config, why_not
from tasks.pipeline.graph_audit import audit_file
from tasks.quantizing.recipe import load_recipe
from tasks.torch_fp8.torch_graph import load
from tests.tasks.families.layers import Recording, cut, in_fp32
from tests.tasks.families.support import Quantized, cosines, run_onnx, simulate, snr_db, tensors
from tests.tasks.openclip.support import ARCHIVES, Golden, golden

KINDS = (
    "biomed",
    "clipa",
    "coca",
    "coca_base",
    "coca_scaled",
    "coca_square",
    "eva01",
    "eva02",
    "eva02_e",
    "mobileclip2_l",
    "mobileclip_b",
    "openvision",
    "pe_core",
    "pe_core_g",
    "roberta",
    "roberta_cls",
    "siglip_i18n",
    "xlm_roberta",
)
GRAPHS = (
    ("eva02", "image"),
    ("coca", "text"),
    *(
        pytest.param(name, encoder, marks=pytest.mark.heavy)
        for name, encoder in (
            ("biomed", "image"),
            ("biomed", "text"),
            ("clipa", "image"),
            ("clipa", "text"),
            ("coca", "image"),
            ("eva01", "image"),
            ("eva01", "text"),
            ("eva02_e", "image"),
            ("mobileclip2_l", "image"),
            ("mobileclip2_l", "text"),
            ("mobileclip_b", "image"),
            ("pe_core", "image"),
            ("pe_core_g", "image"),
            ("roberta", "text"),
            ("roberta_cls", "text"),
        )
    ),
)
"""Every tower once: many kinds have one of theirs in common with others."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Golden]:
    """`made(kind)`: unpacked once; do not change it."""
    return cache(lambda name: golden(name, tmp_path_factory.mktemp("golden") / name))


@pytest.fixture(scope="module")
def skeleton(made: Callable[[str], Golden]) -> Callable[[str, Any], Skeleton]:
    """`skeleton(kind, encoder)`: traced once; do not change it."""
    return cache(lambda name, encoder: trace_by_block(made(name).kind, made(name).config, encoder))


@pytest.fixture(scope="module")
def simulated(made: Callable[[str], Golden]) -> Callable[[str], Quantized]:
    """`simulated(kind)`: FP8 by ModelOpt, once; do not change it."""
    return cache(
        lambda name: simulate("openclip_towers", made(name).config, made(name).folder, load_recipe("fp8"), batch=8)
    )


def write(source: Skeleton, given: Golden, path: Path, properties: dict[str, str]) -> Path:
    weights = WeightReader([given.folder / "open_clip_model.safetensors"], given.kind.pieces)
    write_onnx(source, weights, path, properties)
    return path


# --- FP32 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_towers_are_the_librarys(name: str, made: Callable[[str], Golden]) -> None:
    given = made(name)
    model = given.kind.load(given.folder, given.config, "eager")
    for encoder in ("image", "text"):
        with torch.no_grad():
            got = given.kind.encode(model, encoder, *tensors(given.feeds[encoder])).numpy()
        expected = given.expected[encoder]
        assert np.abs(got - expected).max() < 1e-5
        assert cosines(got, expected).min() >= 0.99999
        assert cosines(got, np.roll(expected, 1, axis=0)).max() < 0.999


@pytest.mark.parametrize("name", KINDS)
def test_no_other_kind_takes_them(name: str, made: Callable[[str], Golden]) -> None:
    assert made(name).kind.name == "openclip_towers"


@pytest.mark.parametrize("name", ["mobileclip2_l", "coca"])
def test_padding_by_the_end_token_is_padding(name: str, made: Callable[[str], Golden]) -> None:
    """transformers' CLIP tokenizer pads so, and every token of these towers sees its padding."""
    given = made(name)
    ids = given.feeds["text"]["input_ids"]
    padded = np.where(np.arange(ids.shape[1]) > ids.argmax(axis=1)[:, None], ids.max(), ids)
    assert (padded != ids).any(axis=1).sum() >= len(ids) - 1
    with torch.no_grad():
        got = given.kind.encode(given.kind.load(given.folder, given.config, "eager"), "text", torch.from_numpy(padded))
    assert np.abs(got.numpy() - given.expected["text"]).max() < 1e-5


@pytest.mark.parametrize("name", KINDS)
def test_every_parameter_is_found_in_the_file(name: str, made: Callable[[str], Golden]) -> None:
    """With its shape, and with nothing left over."""
    given = made(name)
    weights = WeightReader([given.folder / "open_clip_model.safetensors"], given.kind.pieces)
    with torch.device("meta"):
        state = given.kind.build(given.config).state_dict()
    assert {parameter: weights.shape(parameter) for parameter in weights} == {
        parameter: tuple(values.shape) for parameter, values in state.items()
    }


# --- graphs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "encoder"), GRAPHS)
def test_graphs_compute_the_same(
    name: str, encoder: Any, made: Callable[[str], Golden], skeleton: Any, tmp_path: Path
) -> None:
    """In FP16, with all products where the audit expects them, and one element type throughout; and in PyTorch."""
    given = made(name)
    path = write(skeleton(name, encoder), given, tmp_path / "fp16.onnx", {})
    audit_file(path, skeleton(name, encoder).inventory, None)
    casts = [node for node in onnx.load(path).graph.node if node.op_type == "Cast"]
    assert not [node.name for node in casts if node.attribute[0].i == onnx.TensorProto.FLOAT]
    loaded = load(path, "cpu", kernels=True)
    with torch.no_grad():
        by_torch = loaded.module(*(torch.from_numpy(values) for values in given.feeds[encoder].values()))
    assert cosines(by_torch.float().numpy(), given.expected[encoder]).min() >= 0.9999
    for batch in (1, 5):
        feed = {key: values[:batch] for key, values in given.feeds[encoder].items()}
        got = run_onnx(path, feed)
        assert got.dtype == np.float16
        assert cosines(got, given.expected[encoder][:batch]).min() >= 0.9999


@pytest.mark.parametrize(("name", "encoder"), GRAPHS)
def test_fp8_is_modelopts(
    name: str, encoder: Any, made: Callable[[str], Golden], skeleton: Any, simulated: Any, tmp_path: Path
) -> None:
    """Every product is quantized, with ModelOpt's quantizers; each layer, given the same input, gives the same."""
    given, source, quantized = made(name), skeleton(name, encoder), simulated(name)
    modules = [module for module in source.inventory.modules if module.kind in ("linear", "attention")]
    tower = {"image": "vision_model.", "text": "text_model."}[encoder]
    assert {key.rpartition(".")[0] for key in quantized.amax if key.startswith(tower)} == {m.name for m in modules}
    rewritten = quantize(source, quantized.recipe, quantized.amax)
    path = write(rewritten, given, tmp_path / "fp8.onnx", {RECIPE_KEY: quantized.recipe.digest})
    onnx.checker.check_model(path, full_check=True)
    findings = audit_file(path, source.inventory, quantized.recipe)
    assert {kind for (_, kind), f in findings.products.items() if f[0].precision == "fp16"} <= {"conv", "embedding"}
    feed = given.feeds[encoder]
    assert cosines(run_onnx(path, feed), given.expected[encoder]).min() >= 0.95
    teacher = Recording(quantized.rounded(), given.kind, encoder, feed)
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    for module in modules:
        piece, inputs, expected = cut(model, module, teacher, feed)
        assert snr_db(expected, run_onnx(in_fp32(piece), inputs).reshape(expected.shape)) >= 45, module.name


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        pytest.param("eva02", "image", marks=pytest.mark.heavy),
        pytest.param("coca", "text", marks=pytest.mark.heavy),
    ],
)
def test_one_block_repeated_is_the_full_trace(name: str, encoder: Any, made: Callable[[str], Golden]) -> None:
    given = made(name)
    config = given.kind.with_layers(given.config, encoder, 3)
    once, full = trace_by_block(given.kind, config, encoder), trace(given.kind, config, encoder)
    assert once.model.SerializeToString(deterministic=True) == full.model.SerializeToString(deterministic=True)
    assert list(once.weights.items()) == list(full.weights.items())
    assert once.inventory == full.inventory


# --- the architectures that a configuration only names ---------------------------------------------------------------


def full_size(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What timm says about an architecture, and our configuration of a model that names it."""
    facts = json.loads((ARCHIVES / "timm_towers.json").read_bytes())[name]
    pool = "map" if facts["pool_heads"] else "token"
    vision = {"timm_model_name": name, "timm_pool": pool, "timm_proj": None, "image_size": facts["image_size"]}
    model = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": {"width": 64, "layers": 1}, "custom_text": True}
    document = Document.of(model, Path("open_clip_config.json"))
    assert why_not(document) is None
    return facts, towers_config(document)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "name", ["eva02_large_patch14_clip_336", "eva02_enormous_patch14_clip_224", "vit_pe_core_gigantic_patch14_448"]
)
def test_full_size_towers_are_traced_without_weights(name: str) -> None:
    """One block of them, repeated; with as many parameters as timm's has."""
    facts, config = full_size(name)
    skeleton = trace_by_block(OpenClipTowers(), config, "image")
    assert skeleton.inventory.layers == facts["layers"]
    assert skeleton.inventory.parameters == sum(
        math.prod(shape) * (facts["layers"] if key.startswith("blocks.0.") else 1)
        for key, shape in facts["shapes"].items()
    )
    constants = [onnx.numpy_helper.to_array(constant) for constant in skeleton.model.graph.initializer]
    assert {values.dtype for values in constants} <= {np.dtype(np.float16), np.dtype(np.int64)}


@pytest.mark.parametrize("name", sorted(json.loads((ARCHIVES / "timm_towers.json").read_bytes())))
def test_timms_architectures_are_as_timm_builds_them(name: str) -> None:
    """At full size: every tensor's shape, and what shapes do not tell."""
    facts, config = full_size(name)
    part = config["vision_config"]
    assert (part["num_hidden_layers"], part["num_attention_heads"]) == (facts["layers"], facts["heads"])
    assert part["layer_norm_eps"] == facts["eps"]
    assert [{"gelu": "GELU", "silu": "SiLU"}[part["hidden_act"]]] == facts["activations"]
    assert not facts["pool_heads"] or part["pool_heads"] == facts["pool_heads"]
    family = OpenClipTowers()
    with torch.device("meta"):
        tower = family.build(family.with_layers(config, "image", 1)).vision_model
    stored = {f"visual.trunk.{key}": tuple(shape) for key, shape in facts["shapes"].items()}
    found = {parameter: piece for parameter, piece in family.pieces(stored).items() if piece is not None}
    state = {f"vision_model.{key}": tuple(values.shape) for key, values in tower.state_dict().items()}
    assert {parameter: _shape(piece, stored) for parameter, piece in found.items()} == state
    if facts["rotary"]:
        cosines_, sines = (values[part["class_token"] :].astype(np.float64) for values in tower.constants().values())
        table = np.concatenate([sines * np.tile([-1, 1], sines.shape[1] // 2), cosines_], axis=1)
        weights = np.linspace(-1, 1, len(table))[:, None] * np.linspace(-1, 1, table.shape[1])
        assert [table.sum(), (table * weights).sum()] == pytest.approx(facts["rotary"], rel=1e-5)


def _shape(piece: Piece, stored: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    shape = stored[piece.stored] if piece.shape is None else piece.shape
    return shape if piece.rows is None else (piece.rows[1] - piece.rows[0], *shape[1:])


@pytest.mark.parametrize(
    ("sections", "what"),
    [
        ({"vision_cfg": {"timm_model_name": "eva02_base_patch14_448"}}, "timm_model_name 'eva02_base_patch14_448'"),
        ({"vision_cfg": {"timm_model_name": "vit_base_mci_224", "timm_pool": "avg"}}, "timm_pool 'avg'"),
        ({"vision_cfg": {"timm_model_name": "vit_base_mci_224", "timm_pool": "token"}}, "timm_proj 'linear'"),
        ({"vision_cfg": {"attentional_pool": "parallel"}}, "attentional_pool 'parallel'"),
        ({"vision_cfg": {"image_size": [224, 448], "no_ln_pre": True}}, "image_size [224, 448]"),
        ({"text_cfg": {"hf_model_name": "google/mt5-base"}}, "hf_model_name 'google/mt5-base'"),
        ({"text_cfg": {"hf_model_name": "Alibaba-NLP/gte-modernbert-base"}}, "hf_model_name 'Alibaba-NLP/gte"),
        (
            {"text_cfg": {"hf_model_name": "roberta-base", "hf_pooler_type": "max_pooler"}},
            "hf_pooler_type 'max_pooler'",
        ),
        ({"text_cfg": {"hf_model_name": "roberta-base", "hf_proj_type": "clap_mlp"}}, "hf_proj_type 'clap_mlp'"),
        ({"text_cfg": {"no_causal_mask": True, "act_kwargs": {"approximate": "other"}}}, "act_kwargs"),
        ({"text_cfg": {"no_causal_mask": True, "norm_kwargs": {"elementwise_affine": False}}}, "norm_kwargs"),
        ({"text_cfg": {"no_causal_mask": True, "proj_type": "none"}}, "proj_type 'none'"),
        ({"text_cfg": {"no_causal_mask": True, "use_pad_mask": True}}, "use_pad_mask true"),
    ],
)
def test_what_the_towers_are_not_is_named(sections: dict[str, Any], what: str) -> None:
    model = {"embed_dim": 64, "vision_cfg": {}, "text_cfg": {}} | sections
    reason = why_not(Document.of(model, Path("open_clip_config.json")))
    assert reason is not None and what in reason


@pytest.mark.parametrize(
    ("name", "parameters", "eps"),
    [
        ("roberta-base", 124_645_632, 1e-5),
        ("roberta-large", 355_359_744, 1e-5),
        ("xlm-roberta-base", 278_043_648, 1e-5),
        ("xlm-roberta-large", 559_890_432, 1e-5),
        ("bert-base-uncased", 109_482_240, 1e-12),
        ("microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", 109_482_240, 1e-12),
    ],
)
def test_encoders_are_the_hubs(name: str, parameters: int, eps: float) -> None:
    """The published numbers of parameters, the pooler's included."""
    text = {"hf_model_name": name, "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}
    config = towers_config(Document.of({"embed_dim": 8, "vision_cfg": {"layers": 1}, "text_cfg": text}, Path("x.json")))
    with torch.device("meta"):
        encoder = OpenClipTowers().build(config).text_model.encoder
    assert sum(parameter.numel() for parameter in encoder.parameters()) == parameters
    assert {module.eps for module in encoder.modules() if isinstance(module, torch.nn.LayerNorm)} == {eps}
