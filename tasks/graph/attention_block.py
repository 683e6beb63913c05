"""An attention block of an encoder's graph as a graph of its own, small enough to be built just to look at it.

The block reads what its query, key and value projections read, and ends with the linear layer that reads its result, so
that all is there that a builder may put into one kernel with attention. Its weights are random.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from artifacts.errors import ExportError
from tasks.clip.weights import WeightReader
from tasks.graph.channels import Amax, by_channel
from tasks.graph.quantize import quantize
from tasks.graph.skeleton import Skeleton, module_of
from tasks.graph.writer import write_onnx
from tasks.quantizing.recipe import Recipe

_AMAX = 4.0
"""Of every quantizer of a block; its value decides nothing that a builder looks at."""
_OF_PRODUCTS = tuple(f"{operand}_bmm_quantizer" for operand in "qkpv")
_QUANTIZERS = ("input_quantizer", "weight_quantizer", *_OF_PRODUCTS)


def quantized_attention(skeleton: Skeleton, recipe: Recipe) -> list[str]:
    """The names of the attention modules of which a recipe quantizes a product."""
    modules = (module.name for module in skeleton.inventory.modules if module.kind == "attention")
    return [name for name in modules if any(recipe.rule_for(f"{name}.{q}", "attention") for q in _OF_PRODUCTS)]


def attention_block(skeleton: Skeleton, among: Collection[str] | None = None) -> Skeleton:
    """The graph of the first attention block, FP16 (B, tokens, width) in and out, with the inputs of a mask.

    `among` are the names of the attention modules that are looked at; all if it is None.

    Raises:
        ExportError: the graph has no attention between linear layers.
    """
    graph = skeleton.model.graph
    kinds = {module.name: module.kind for module in skeleton.inventory.modules}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    linear = [node for node in products if kinds.get(module_of(node.name)) == "linear"]
    wanted = {name for name, kind in kinds.items() if kind == "attention" and (among is None or name in among)}
    attention = next((node for node in products if module_of(node.name) in wanted), None)
    reached = set() if attention is None else set(attention.output)
    for node in graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
    last = next((node for node in linear if reached.intersection(node.input)), None)
    if last is None:
        raise ExportError(
            "there is no attention block that could be built alone",
            where=f"the graph of the {skeleton.inventory.encoder} encoder",
            expected="attention between linear layers",
            fix="take a recipe that does not ask the builder, such as fp8",
        )
    behind = _ancestors(graph, last.input, {name for node in linear for name in node.output})
    read = {name for node in behind for name in node.input}
    given = {node.input[0] for node in linear if read.intersection(node.output)}
    return _alone(skeleton, _ancestors(graph, last.output, given), [*given, last.output[0]])


def tokens(block: Skeleton) -> int:
    """How many tokens the attention of a block sees."""
    return int(block.model.graph.output[0].type.tensor_type.shape.dim[1].dim_value)


def products(block: Skeleton) -> set[str]:
    """The names of the two products of a block's attention."""
    kinds = {module.name: module.kind for module in block.inventory.modules}
    nodes = (node for node in block.model.graph.node if node.op_type == "MatMul")
    return {node.name for node in nodes if kinds.get(module_of(node.name)) == "attention"}


def write_block(block: Skeleton, recipe: Recipe | None, path: Path) -> None:
    """Write the graph of a block with random weights: in FP16, or with the quantizers of a recipe.

    Raises:
        ExportError: the recipe quantizes one operand of a product and not the other.
    """
    from safetensors.numpy import save_file

    random = np.random.default_rng(0)
    shapes = {w.key: w.shape[::-1] if w.transposed else w.shape for w in block.weights.values()}
    stored = path.with_suffix(".safetensors")
    save_file({key: random.standard_normal(shape).astype(np.float16) for key, shape in shapes.items()}, stored)
    if recipe is not None:
        amax: dict[str, Amax] = {f"{m.name}.{q}": _AMAX for m in block.inventory.modules for q in _QUANTIZERS}
        amax |= {name: np.full(weight.shape[1], _AMAX, np.float32) for name, weight in by_channel(block, recipe)}
        block = quantize(block, recipe, amax)
    write_onnx(block, WeightReader([stored]), path, {})


def _ancestors(graph: onnx.GraphProto, names: Iterable[str], given: set[str]) -> list[onnx.NodeProto]:
    """The nodes that compute the tensors `names` from the tensors `given`, in the order of the graph."""
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output}
    found: set[int] = set()
    ahead = list(names)
    while ahead:
        name = ahead.pop()
        if name not in given and name in makers and makers[name] not in found:
            found.add(makers[name])
            ahead += graph.node[makers[name]].input
    return [graph.node[place] for place in sorted(found)]


def _alone(skeleton: Skeleton, nodes: list[onnx.NodeProto], ends: list[str]) -> Skeleton:
    """These nodes as a graph: of `ends`, the last is the output, the others are inputs beside the encoder's own."""
    used = {name for node in nodes for name in node.input}
    known = _tensors(skeleton)
    model = deepcopy(skeleton.model)
    graph = model.graph
    inputs = [known[name] for name in ends[:-1]] + [value for value in graph.input if value.name in used]
    for value in (*inputs, known[ends[-1]]):  # by one name, or a builder would not know that a mask has the same batch
        value.type.tensor_type.shape.dim[0].CopyFrom(graph.input[0].type.tensor_type.shape.dim[0])
    constants = [constant for constant in graph.initializer if constant.name in used]
    copied = [deepcopy(node) for node in nodes]
    graph.Clear()
    graph.name = "attention_block"
    graph.node.extend(copied)
    graph.input.extend(inputs)
    graph.output.append(known[ends[-1]])
    graph.initializer.extend(constants)
    weights = {name: weight for name, weight in skeleton.weights.items() if name in used}
    return Skeleton(model, weights, skeleton.inventory)


def _tensors(skeleton: Skeleton) -> Mapping[str, onnx.ValueInfoProto]:
    """Type and shape of every tensor, by name."""
    model = deepcopy(skeleton.model)
    for name, weight in skeleton.weights.items():
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT16, weight.shape))
    return {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
