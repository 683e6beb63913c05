"""What a search decides about: linear layers, attention products, embedding tables; and what each is worth."""

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
"""What each operand of a node that is in FP8 is scaled with; None where an operand is not."""


@dataclass(frozen=True)
class Unit:
    """A module that the recipe has in FP8.

    `products` are its nodes, by the tensor that each makes, with the scales of their operands. `flops` counts what its
    matrix products do for one sample: none for an embedding table, which is looked up.
    """

    encoder: Encoder
    module: str
    kind: ModuleKind
    flops: int
    products: Mapping[str, Scales] = field(compare=False)

    @property
    def weight_quantizer(self) -> str:
        """The name of a linear layer's or a table's."""
        return f"{self.module}.weight_quantizer"

    @property
    def can_go_by_channel(self) -> bool:
        """Whether the weight could have a scale for each output channel, and has one scale."""
        scales = [scale for operands in self.products.values() for scale in operands]
        return self.kind == "linear" and not any(isinstance(scale, tuple) for scale in scales)

    @property
    def quantizers(self) -> tuple[str, ...]:
        """Patterns of its quantizers' names. A module below it (`self_attn.q_proj`) is another unit, and not meant."""
        if self.kind == "attention":
            return (f"{self.module}.[qkvp]_bmm_quantizer",)
        inputs = () if self.kind == "embedding" else (f"{self.module}.input_quantizer",)
        return (*inputs, self.weight_quantizer)


def units_of(
    skeleton: Skeleton, recipe: Recipe, amax: Mapping[str, Amax], products: Iterable[Product]
) -> tuple[Unit, ...]:
    """The units of one encoder in the order of the graph, read off the graph that the recipe gives.

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
