"""The units of a search: linear layers, attention products and embedding tables, with the work of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from onnx import numpy_helper

from artifacts.manifest import Encoder
from tasks.bench.roofline import Product
from tasks.graph.channels import Amax
from tasks.graph.quantize import quantize
from tasks.graph.skeleton import ModuleKind, Skeleton, module_of
from tasks.quantizing.recipe import Recipe
from tasks.torch_fp8.onnx_graph import Scale

Scales = tuple[Scale | None, ...]
"""The scale of each FP8 operand of a node; None for operands that are not FP8."""


@dataclass(frozen=True)
class Unit:
    """A module that is FP8 in the recipe.

    `products` are its nodes, by the tensor that each makes, with the scales of their operands. `flops` is the number of
    operations of its matrix products for one sample: 0 for an embedding table, which is only looked up.
    """

    encoder: Encoder
    module: str
    kind: ModuleKind
    flops: int
    products: Mapping[str, Scales] = field(compare=False)

    @property
    def weight_quantizer(self) -> str:
        """The name of the weight quantizer of a linear layer or embedding table."""
        return f"{self.module}.weight_quantizer"

    @property
    def can_go_by_channel(self) -> bool:
        """Whether the weight has one scale and could have one per output channel."""
        scales = [scale for operands in self.products.values() for scale in operands]
        return self.kind == "linear" and not any(isinstance(scale, tuple) for scale in scales)

    @property
    def quantizers(self) -> tuple[str, ...]:
        """Patterns of its quantizers' names, which do not match modules below it (`self_attn.q_proj`): other units."""
        if self.kind == "attention":
            return (f"{self.module}.[qkvp]_bmm_quantizer",)
        inputs = () if self.kind == "embedding" else (f"{self.module}.input_quantizer",)
        return (*inputs, self.weight_quantizer)


def units_of(
    skeleton: Skeleton, recipe: Recipe, amax: Mapping[str, Amax], products: Iterable[Product]
) -> tuple[Unit, ...]:
    """The units of one encoder in the order of the graph, found in the graph that the recipe gives.

    `products` counts the work of the FP16 graph for one sample (`tasks.bench.roofline.count_products`).

    Raises:
        BadAmax, ExportError: as `tasks.graph.quantize.quantize`.
    """
    graph = quantize(skeleton, recipe, amax).model.graph
    constants = {c.name: c for c in graph.initializer}
    scales: dict[str, Scale] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            values = numpy_helper.to_array(constants[node.input[1]])
            scales[node.output[0]] = tuple(values.tolist()) if values.ndim else float(values)
    found: dict[str, dict[str, Scales]] = defaultdict(dict)
    for node in graph.node:
        operands = tuple(scales.get(name) for name in node.input)
        if node.op_type in ("MatMul", "Gather") and any(scale is not None for scale in operands):
            found[module_of(node.name)][node.output[0]] = operands
    flops: dict[str, int] = defaultdict(int)
    for product in products:
        flops[product.module] += product.flops
    kinds = {module.name: module.kind for module in skeleton.inventory.modules}
    encoder = skeleton.inventory.encoder
    return tuple(
        Unit(encoder, module, kinds[module], 0 if kinds[module] == "embedding" else flops[module], nodes)
        for module, nodes in found.items()
    )
