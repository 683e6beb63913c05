"""The block that is cut out of an encoder is a sound graph of its own, with every quantizer that exports write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from artifacts.errors import ExportError
from tasks.families import family_named
from tasks.graph.attention_block import attention_block, products, quantized_attention, tokens, write_block
from tasks.graph.skeleton import Skeleton, module_of
from tasks.graph.strong_typing import type_conflicts
from tasks.graph.tracing import trace
from tasks.quantizing.recipe import Recipe, load_recipe
from tests.tasks.families.support import CONFIGS


@pytest.fixture(params=["image", "text", "padded text"])
def whole(request: pytest.FixtureRequest, small_clip: Path, skeleton_of: Callable[[Path, Any], Skeleton]) -> Skeleton:
    """An encoder without a mask, with a causal one, and with one of the padding."""
    if request.param != "padded text":
        return skeleton_of(small_clip, request.param)
    family, config = family_named("chinese_clip"), CONFIGS["chinese_clip"]
    return trace(family, family.with_layers(config, "text", 1), "text")


def test_the_first_block_alone(whole: Skeleton, tmp_path: Path) -> None:
    block = attention_block(whole)
    assert len(products(block)) == 2 and len({module_of(node) for node in products(block)}) == 1
    masks = {"attention_mask"} & {value.name for value in whole.model.graph.input}
    first, *others = (value.name for value in block.model.graph.input)
    assert first not in [value.name for value in whole.model.graph.input] and set(others) == masks
    batches = [value.type.tensor_type.shape.dim[0].dim_param for value in block.model.graph.input]
    assert set(batches) == {"batch"}, "else a builder does not put a mask into the kernel"
    assert tokens(block) == tokens_of(block)
    for recipe in (None, load_recipe("fp8")):
        path = tmp_path / "block.onnx"
        write_block(block, recipe, path)
        model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
        onnx.checker.check_model(model)
        assert type_conflicts(model) == []
        pairs = [node.name for node in model.graph.node if node.op_type == "QuantizeLinear"]
        assert len(pairs) == (0 if recipe is None else 6), pairs  # q, k and v read one input


def tokens_of(block: Skeleton) -> int:
    """The last dimension of the scores."""
    model = onnx.shape_inference.infer_shapes(block.model)
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    shapes = {value.name: value.type.tensor_type.shape for value in model.graph.value_info}
    return shapes[softmax.output[0]].dim[3].dim_value


def test_a_graph_without_attention_is_refused(small_clip: Path, skeleton_of: Callable[[Path, Any], Skeleton]) -> None:
    whole = skeleton_of(small_clip, "text")
    linear = tuple(module for module in whole.inventory.modules if module.kind != "attention")
    other = Skeleton(whole.model, whole.weights, whole.inventory.model_copy(update={"modules": linear}))
    with pytest.raises(ExportError, match="no attention block"):
        attention_block(other)


def off(recipe: Recipe, *names: str) -> Recipe:
    """The recipe with these attention modules in FP16."""
    return recipe.without_attention(names)


def test_a_block_is_one_that_the_recipe_quantizes(small_clip: Path, skeleton_of: Any, tmp_path: Path) -> None:
    """Of a recipe that leaves the first layer's attention in FP16, its block would tell nothing of the others."""
    whole, fp8 = skeleton_of(small_clip, "text"), load_recipe("fp8")
    first, second = (f"text_model.encoder.layers.{layer}.self_attn" for layer in (0, 1))
    assert quantized_attention(whole, fp8) == [first, second]
    assert quantized_attention(whole, load_recipe("fp8-no-attention")) == []
    recipe = off(fp8, first)
    assert quantized_attention(whole, recipe) == [second]
    block = attention_block(whole, [second])
    assert products(block) == {f"{second}/MatMul", f"{second}/MatMul_2"} and tokens(block) == tokens_of(block)
    write_block(block, recipe, tmp_path / "block.onnx")
    pairs = [n.name for n in onnx.load(tmp_path / "block.onnx").graph.node if n.op_type == "QuantizeLinear"]
    assert len(pairs) == 6


def test_a_recipe_with_a_scale_for_each_channel_can_be_asked_about(
    small_clip: Path, skeleton_of: Any, recipe_by_channel: Recipe, tmp_path: Path
) -> None:
    block = attention_block(skeleton_of(small_clip, "image"))
    write_block(block, recipe_by_channel, tmp_path / "block.onnx")
    model = onnx.load(tmp_path / "block.onnx")
    onnx.checker.check_model(model)
    ranks = {len(constant.dims) for constant in model.graph.initializer if constant.name.endswith(".scale")}
    assert ranks == {0, 1}
