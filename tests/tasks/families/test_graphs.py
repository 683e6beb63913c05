"""Every family's graphs compute what transformers and ModelOpt compute, whatever the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tasks.families import family_named
from tasks.file_names import RECIPE_KEY
from tasks.graph.quantize import quantize
from tasks.graph.replicate import trace_by_block
from tasks.graph.tracing import trace
from tasks.graph.writer import write_onnx
from tasks.pipeline.graph_audit import audit_file
from tasks.quantizing.recipe import Recipe, builtin_names, load_recipe, owner_of
from tests.tasks.families.layers import Recording, cut, in_fp32, in_fp32_feed
from tests.tasks.families.support import (
    CONFIGS,
    EACH_ENCODER,
    EACH_NAME,
    ENCODERS,
    SIGLIPS,
    cosines,
    hf_embeddings,
    random_feed,
    reader,
    run_onnx,
    snr_db,
    tensors,
)

RECIPES = [name for name in builtin_names() if load_recipe(name).attention is None]
PLAIN = ("conv", "embedding")


# --- what is traced and where it is stored -----------------------------------------------------------------


@pytest.mark.parametrize("name", EACH_NAME)
def test_every_parameter_is_found_in_the_file(name: str, checkpoint: Any) -> None:
    """Also those of modules that were taken apart, and with the values that transformers loads."""
    family = family_named(name)
    folder = checkpoint(name)
    weights = reader(name, folder)
    model = family.load(folder, CONFIGS[name], "eager")
    family.expose(model)
    state = model.state_dict()
    assert set(weights) == set(state)
    for parameter, values in state.items():
        assert weights.shape(parameter) == tuple(values.shape)
        assert np.array_equal(weights.read(parameter), values.numpy()), parameter


@pytest.mark.parametrize("name", EACH_NAME)
def test_taking_modules_apart_changes_nothing(name: str, checkpoint: Any) -> None:
    family = family_named(name)
    plain, exposed = (family.load(checkpoint(name), CONFIGS[name], "eager") for _ in range(2))
    family.expose(exposed)
    for encoder in ENCODERS:
        inputs = tensors(random_feed(family, CONFIGS[name], encoder, 4))
        with torch.no_grad():
            first, second = (family.encode(model, encoder, *inputs) for model in (plain, exposed))
        assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        pytest.param(*each.values, marks=each.marks if each.values == ("siglip", "image") else pytest.mark.heavy)
        for each in EACH_ENCODER
        if each.values[0] != "clip"  # tests/tasks/graph/test_replicate.py
    ],
)
def test_one_block_repeated_is_the_full_trace(name: str, encoder: Any) -> None:
    config = family_named(name).with_layers(CONFIGS[name], encoder, 3)
    once, full = trace_by_block(family_named(name), config, encoder), trace(family_named(name), config, encoder)
    assert once.model.SerializeToString(deterministic=True) == full.model.SerializeToString(deterministic=True)
    assert list(once.weights.items()) == list(full.weights.items())
    assert once.inventory == full.inventory


@pytest.mark.parametrize("name", EACH_NAME)
def test_quantizers_owners_are_read_off_their_names(name: str, simulated: Any) -> None:
    from torch import nn

    model = simulated(name, "fp8-compact").model
    classes = {nn.Linear: "nn.Linear", nn.Embedding: "nn.Embedding"}
    kinds = set()
    for quantizer in simulated(name, "fp8-compact").amax:
        module = model.get_submodule(quantizer.rpartition(".")[0])
        expected = next((text for cls, text in classes.items() if isinstance(module, cls)), "attention")
        assert owner_of(quantizer) == expected, quantizer
        kinds.add(expected)
    assert kinds == {"nn.Linear", "nn.Embedding", "attention"}


# --- FP16 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(("name", "encoder"), EACH_ENCODER)
def test_fp16_is_transformers(name: str, encoder: Any, batch: int, graph: Any, checkpoint: Any) -> None:
    feed = random_feed(family_named(name), CONFIGS[name], encoder, batch)
    got, reference = run_onnx(graph(name, encoder, None), feed), hf_embeddings(checkpoint(name), encoder, feed)
    assert got.dtype == np.float16 and got.shape == reference.shape
    assert cosines(got, reference).min() >= 0.99999
    if batch > 1:  # rows differ, so a graph that pooled or broadcast the wrong row would show
        assert cosines(got, np.roll(reference, 1, axis=0)).max() < 0.999


@pytest.mark.parametrize("name", ["chinese_clip", "altclip"])
def test_padding_is_masked(name: str, graph: Any) -> None:
    """What stands under the padding does not matter, as long as it is masked; without the mask it does."""
    feed = random_feed(family_named(name), CONFIGS[name], "text", 3)
    mask = feed["attention_mask"]
    assert 0 < mask.sum() < mask.size
    other = feed | {"input_ids": np.where(mask == 1, feed["input_ids"], 7 if name == "chinese_clip" else 1)}
    unmasked = feed | {"attention_mask": np.ones_like(mask)}
    got, same, seen = (run_onnx(graph(name, "text", None), f) for f in (feed, other, unmasked))
    assert np.array_equal(got, same)
    assert (np.abs(got - seen).max(axis=1) > 0).all()


# --- every recipe ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("name", "encoder"), EACH_ENCODER)
def test_recipe_is_in_the_graph(
    name: str, encoder: Any, recipe: str, graph: Any, skeleton: Any, checkpoint: Any
) -> None:
    """The ONNX checker and strict inference accept it, ONNX Runtime runs it, and it stays near the FP32 model."""
    path: Path = graph(name, encoder, recipe)
    onnx.checker.check_model(path, full_check=True)
    onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True, data_prop=True)
    findings = audit_file(path, skeleton(name, encoder).inventory, load_recipe(recipe))
    left = {kind for (_, kind), found in findings.products.items() if found[0].precision == "fp16"}
    expected = {"image": {"conv", "embedding"}, "text": {"embedding"}}[encoder]
    assert left == expected | ({"bmm_qk", "bmm_pv"} if recipe == "fp8-no-attention" else set())
    tables = [
        module for (module, kind), f in findings.products.items() if kind == "embedding" and f[0].precision == "fp8"
    ]
    assert len(tables) == (recipe == "fp8-compact" and encoder == "text")
    feed = random_feed(family_named(name), CONFIGS[name], encoder, 6)
    got, reference = run_onnx(path, feed), hf_embeddings(checkpoint(name), encoder, feed)
    assert cosines(got, reference).min() >= 0.98
    assert (cosines(got, reference) > cosines(got, np.roll(reference, 1, axis=0))).all()


@pytest.mark.parametrize("name", [name for name in EACH_NAME if name.values[0] in SIGLIPS])
def test_siglip_pools_in_fp8(name: str, graph: Any, skeleton: Any) -> None:
    """The pooling head's four projections, its two products and its MLP: nothing of it stays FP16."""
    findings = audit_file(graph(name, "image", "fp8"), skeleton(name, "image").inventory, load_recipe("fp8"))
    head = {key: found[0].precision for key, found in findings.products.items() if ".head." in key[0]}
    assert sorted(kind for _, kind in head) == ["bmm_pv", "bmm_qk", *["linear"] * 6]
    assert set(head.values()) == {"fp8"}


@pytest.mark.parametrize(("name", "encoder"), EACH_ENCODER)
def test_exclusions_are_in_the_graph(
    name: str, encoder: Any, skeleton: Any, simulated: Any, checkpoint: Any, tmp_path: Path
) -> None:
    """One rule per module name, for every module in turn: exactly that module is FP16 afterwards."""
    source = skeleton(name, encoder)
    path = tmp_path / "m.onnx"
    for module in source.inventory.modules:
        if module.kind not in ("linear", "attention"):
            continue
        quantizers = f"{module.name}.{'?_bmm' if module.kind == 'attention' else '*'}_quantizer"
        content = load_recipe("fp8").model_dump()
        content["quantize"]["quant_cfg"].append({"quantizer_name": quantizers, "enable": False})
        recipe = Recipe.model_validate(content)
        rewritten = quantize(source, recipe, simulated(name, "fp8").amax)
        write_onnx(rewritten, reader(name, checkpoint(name)), path, {RECIPE_KEY: recipe.digest})
        products = audit_file(path, source.inventory, recipe).products
        left = {name for (name, kind), f in products.items() if f[0].precision == "fp16" and kind not in PLAIN}
        assert left == {module.name}


# --- the whole encoder, against the measured noise floor ---------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("name", "encoder"), EACH_ENCODER)
def test_encoder_is_within_the_noise_floor(name: str, encoder: Any, recipe: str, graph: Any, simulated: Any) -> None:
    """ModelOpt's simulation, run twice with weights that differ by FP16 rounding, differs from itself: roundings flip.

    The graph must not be further from the simulation than that (3 dB for the luck of the draw).
    """
    quantized = simulated(name, recipe)
    feed = random_feed(quantized.family, CONFIGS[name], encoder, 32, seed=5)
    with torch.no_grad():
        first, second = (
            quantized.family.encode(model, encoder, *tensors(feed)).numpy()
            for model in (quantized.model, quantized.rounded())
        )
    floor = snr_db(first, second)
    got = snr_db(second, run_onnx(in_fp32(onnx.load(graph(name, encoder, recipe))), in_fp32_feed(feed)))
    print(f"{name} {encoder} {recipe}: noise floor {floor:.1f} dB, graph {got:.1f} dB")
    assert got >= floor - 3


# --- against ModelOpt, one teacher-forced layer at a time --------------------------------------------------

SNR_DB = 45
"""What one layer with equal weights, scales and inputs must reach; rounding flips of FP32 sums alone leave about 56."""


@pytest.mark.parametrize(("name", "encoder"), EACH_ENCODER)
def test_every_layer_is_modelopts(name: str, encoder: Any, graph: Any, skeleton: Any, simulated: Any) -> None:
    """Every quantized linear layer and attention, given the same input, in FP32 arithmetic."""
    quantized = simulated(name, "fp8")
    feed = random_feed(quantized.family, CONFIGS[name], encoder, 8, seed=3)
    teacher = Recording(quantized.rounded(), quantized.family, encoder, feed)
    model = onnx.shape_inference.infer_shapes(onnx.load(graph(name, encoder, "fp8")))
    modules = [m for m in skeleton(name, encoder).inventory.modules if m.kind in ("linear", "attention")]
    levels = {}
    for module in modules:
        piece, inputs, expected = cut(model, module, teacher, feed)
        ops = [node.op_type for node in piece.graph.node]
        assert ops.count("QuantizeLinear") == (1 if module.kind == "linear" else 4)
        levels[module.name] = snr_db(expected, run_onnx(in_fp32(piece), inputs).reshape(expected.shape))
    worst = min(levels, key=lambda key: levels[key])
    print(f"{name} {encoder}: {len(levels)} layers, worst {worst} {levels[worst]:.1f} dB")
    assert levels[worst] >= SNR_DB


@pytest.mark.parametrize(("name", "encoder"), EACH_ENCODER)
def test_the_measure_sees_a_missing_quantizer(
    name: str, encoder: Any, graph: Any, skeleton: Any, simulated: Any
) -> None:
    """Unquantized layers fail the same comparison by far, so passing it means something."""
    quantized = simulated(name, "fp8")
    feed = random_feed(quantized.family, CONFIGS[name], encoder, 8, seed=3)
    teacher = Recording(quantized.rounded(), quantized.family, encoder, feed)
    model = onnx.shape_inference.infer_shapes(onnx.load(graph(name, encoder, None)))
    for module in skeleton(name, encoder).inventory.modules:
        if module.kind in ("linear", "attention"):
            piece, inputs, expected = cut(model, module, teacher, feed)
            assert snr_db(expected, run_onnx(in_fp32(piece), inputs).reshape(expected.shape)) < SNR_DB - 5
