"""The block that is cut out of an encoder: it computes what that computes, and a builder makes the same of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from artifacts.errors import ExportError
from tasks.families import family_named
from tasks.graph.attention_block import attention_block, products, tokens, write_block
from tasks.graph.skeleton import Skeleton, module_of
from tasks.graph.strong_typing import type_conflicts
from tasks.graph.tracing import trace
from tasks.quantizing.recipe import load_recipe
from tests.tasks.families.support import CONFIGS


@pytest.mark.parametrize("encoder", ["image", "text"])
@pytest.mark.parametrize("name", ["clip", "siglip", "chinese_clip"])
def test_the_first_block_alone(name: str, encoder: Any, tmp_path: Path) -> None:
    family = family_named(name)
    whole = trace(family, family.with_layers(CONFIGS[name], encoder, 1), encoder)
    block = attention_block(whole)
    spec = family.encoder_spec(CONFIGS[name], encoder)
    assert len(products(block)) == 2 and len({module_of(node) for node in products(block)}) == 1
    inputs = {each.name for each in spec.inputs}
    given = [value.name for value in block.model.graph.input if value.name not in inputs]
    assert len(given) == 1 and tokens(block) == tokens_of(block)
    masked = {"attention_mask"} if (name, encoder) == ("chinese_clip", "text") else set()
    assert {value.name for value in block.model.graph.input} - set(given) <= masked | inputs
    assert ("attention_mask" in {value.name for value in block.model.graph.input}) == bool(masked)
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


def test_a_graph_without_attention_is_refused() -> None:
    family = family_named("clip")
    whole = trace(family, family.with_layers(CONFIGS["clip"], "text", 1), "text")
    linear = tuple(module for module in whole.inventory.modules if module.kind != "attention")
    other = Skeleton(whole.model, whole.weights, whole.inventory.model_copy(update={"modules": linear}))
    with pytest.raises(ExportError, match="no attention block"):
        attention_block(other)
