"""Recognising patterns in the graph that a GPU can run as one kernel: linear layers, attention, shared q/k/v inputs.

This module only recognises; nothing is computed here. Nodes that belong to no pattern stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from onnx import NodeProto

from tasks.torch_fp8.onnx_graph import FP8, OnnxGraph, Scale, attribute, module_of

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]
_KERNEL_SIZES = (64, 128)
"""Head sizes that our attention kernel supports."""
_QUICK = 1.702
"""x * sigmoid(1.702 x) is QuickGELU (Hendrycks and Gimpel 2016)."""
FP8_ALIGNMENT = 16
"""`torch._scaled_mm` requires both sides of a weight to be multiples of this."""
_MASKED = -10_000.0
"""Values of an additive mask at or below this forbid attention."""
_FOLDABLE = 64.0
"""Scales that differ by more than this factor are not merged: q or k could leave FP16's range."""


@dataclass(frozen=True)
class Linear:
    """`output = x @ weight + bias`; in FP8 if both the input and the weight are FP8.

    If `x_scale` is set, `x` is the FP8 tensor itself. The weight has one scale, or one per output channel.
    """

    module: str
    x: str
    weight: str
    """A constant of shape (in, out)."""
    bias: str | None
    output: str
    x_scale: float | None = None
    weight_scale: Scale | None = None

    @property
    def fp8(self) -> bool:
        return self.x_scale is not None

    @property
    def by_channel(self) -> bool:
        return isinstance(self.weight_scale, tuple)


@dataclass(frozen=True)
class ActivatedLinear:
    """An FP8 linear layer with its activation function and the quantization of the result, for one kernel."""

    linear: Linear
    activation: Activation
    out_scale: float
    output: str
    """FP8."""


@dataclass(frozen=True)
class LinearGroup:
    """Linear layers with the same input, run as one product whose output is split.

    If FP8 weights have one scale each, the kernel uses one scale for all: a member's `factor` is (scale used) / (own
    scale), so its output is `factor` times too large, which the attention's scale corrects (see `Attention.scale`).
    With scales by channel each output has its own scale, and factors are 1.
    """

    members: tuple[Linear, ...]
    factors: tuple[float, ...]


@dataclass(frozen=True)
class Attention:
    """`softmax(scale * q @ kT + mask) @ v`, all (batch, heads, length, size), kT with its last two axes swapped."""

    module: str
    q: str
    k_transposed: str
    v: str
    scale: float
    output: str
    mask: str | None = None
    causal: bool = False
    was_fp8: bool = False
    """Whether the graph quantizes its operands, which this step does not do."""
    tokens: bool = False
    """Whether the output is (batch, length, heads * size), as our kernel writes it, instead of the form of `v`."""
    out_scale: float | None = None
    """The scale that quantizes the output to FP8; only with `tokens`."""


Step: TypeAlias = NodeProto | Linear | ActivatedLinear | LinearGroup | Attention


@dataclass
class Plan:
    """Steps in an executable order; nodes that became part of patterns are removed or have no consumers."""

    steps: list[Step] = field(default_factory=list)

    def linears(self) -> Iterator[Linear]:
        """Every linear layer, also those in groups."""
        for step in self.steps:
            if isinstance(step, Linear):
                yield step
            elif isinstance(step, ActivatedLinear):
                yield step.linear
            elif isinstance(step, LinearGroup):
                yield from step.members

    def attentions(self) -> Iterator[Attention]:
        """Every recognised attention."""
        yield from (step for step in self.steps if isinstance(step, Attention))


def literal_plan(graph: OnnxGraph) -> Plan:
    """The plan with every node by itself: dequantized operands, products in FP16."""
    return Plan(list(graph.nodes))


def fused_plan(graph: OnnxGraph, *, kernels: bool = False) -> Plan:
    """The plan with linear layers, attention and shared q/k/v as one step each.

    With `kernels`, also steps that only our own kernels can do: activations that are quantized in the epilogue of the
    product before them, and attention that writes tokens in the form that its output projection reads.
    """
    return Plan(list(_Planner(graph, kernels).steps()))


class _Planner:
    def __init__(self, graph: OnnxGraph, kernels: bool) -> None:
        self.graph = graph
        self.linears = {node.output[0]: found for node in graph.nodes if (found := _linear(graph, node))}
        self.attentions = {node.output[0]: whole for node in graph.nodes if (whole := _attention(graph, node))}
        self.groups: dict[str, LinearGroup] = {}
        self.activated: dict[str, ActivatedLinear] = {}
        self.swallowed: set[str] = {linear.output for linear in self.linears.values() if linear.bias is not None}
        self._find_groups()
        if kernels:
            self._find_activated()
            self._find_tokens()

    def steps(self) -> Iterator[Step]:
        done: set[str] = set()
        for node in self.graph.nodes:
            name = node.output[0]
            linear = self.linears.get(name)
            if name in self.attentions:
                yield self.attentions[name]
            elif linear is not None:
                group = self.groups.get(linear.output)
                if group is None:
                    yield self.activated.get(linear.output, linear)
                elif group.members[0].output not in done:
                    done.add(group.members[0].output)
                    yield group
            elif name not in self.swallowed:
                yield node

    def _find_groups(self) -> None:
        by_output = {linear.output: linear for linear in self.linears.values()}
        for name, attention in list(self.attentions.items()):
            group = _group(self.graph, attention, by_output)
            if group is not None:
                q, k, _ = group.factors
                self.attentions[name] = replace(attention, scale=attention.scale / (q * k))
                self.groups |= {member.output: group for member in group.members}

    def _find_activated(self) -> None:
        for linear in self.linears.values():
            found = _activated(self.graph, linear)
            if found is not None:
                self.activated[linear.output], names = found
                self.swallowed |= names

    def _find_tokens(self) -> None:
        for name, attention in list(self.attentions.items()):
            whole = _with_tokens(self.graph, attention)
            if whole is not None:
                self.attentions[name], names = whole
                self.swallowed |= names


# --- linear layers -----------------------------------------------------------------------------------------


def _linear(graph: OnnxGraph, node: NodeProto) -> Linear | None:
    if node.op_type != "MatMul":
        return None
    x, weight = node.input
    scaled = graph.dequantized(weight)
    constant = weight if scaled is None else scaled.tensor
    if constant not in graph.constants or len(graph.constants[constant].dims) != 2:
        return None
    bias, output = _bias(graph, node.output[0])
    found = Linear(module_of(node), x, constant, bias, output)
    if scaled is None:
        return found
    active = graph.dequantized(x)
    if active is None or isinstance(active.scale, tuple) or graph.constants[constant].data_type != FP8:
        return None
    if any(size % FP8_ALIGNMENT for size in graph.constants[constant].dims):
        return None
    return replace(found, x=active.tensor, x_scale=active.scale, weight_scale=scaled.scale)


def _bias(graph: OnnxGraph, product: str) -> tuple[str | None, str]:
    """The constant vector that is added to a product, and the sum's name; or None and the product's own name."""
    add = graph.only_consumer(product)
    if add is not None and add.op_type == "Add":
        (other,) = [name for name in add.input if name != product] or [product]
        if other in graph.constants and len(graph.constants[other].dims) == 1:
            return other, add.output[0]
    return None, product


def _activated(graph: OnnxGraph, linear: Linear) -> tuple[ActivatedLinear, set[str]] | None:
    """The layer with its activation and quantization, and the names of tensors that are then never computed."""
    if not linear.fp8 or linear.bias is None or linear.by_channel:
        return None
    found = _gelu(graph, linear.output) or _quick_gelu(graph, linear.output)
    if found is None:
        return None
    activation, names = found
    quantize = graph.only_consumer(names[-1])
    scale = None if quantize is None or quantize.op_type != "QuantizeLinear" else graph.scalar(quantize.input[1])
    if quantize is None or scale is None:
        return None
    return ActivatedLinear(linear, activation, scale, quantize.output[0]), {*names, quantize.output[0]}


def _gelu(graph: OnnxGraph, name: str) -> tuple[Activation, list[str]] | None:
    node = graph.only_consumer(name)
    if node is None or node.op_type != "Gelu":
        return None
    return "gelu_tanh" if attribute(node, "approximate", b"none") == b"tanh" else "gelu", [node.output[0]]


def _quick_gelu(graph: OnnxGraph, name: str) -> tuple[Activation, list[str]] | None:
    """Recognise x * sigmoid(1.702 x) written out as nodes."""
    users = graph.consumers[name]
    for inner in users:
        factor = next((graph.scalar(other) for other in inner.input if other != name), None)
        sigmoid = graph.only_consumer(inner.output[0])
        if factor is None or abs(factor - _QUICK) > 0.001 or sigmoid is None or sigmoid.op_type != "Sigmoid":
            continue
        product = graph.only_consumer(sigmoid.output[0])
        if product is not None and product.op_type == "Mul" and name in product.input and len(users) == 2:
            return "quick_gelu", [inner.output[0], sigmoid.output[0], product.output[0]]
    return None


# --- attention ---------------------------------------------------------------------------------------------


def _attention(graph: OnnxGraph, node: NodeProto) -> Attention | None:
    """Recognise attention, going back from the product with V; None if the form is not the expected one."""
    if node.op_type != "MatMul":
        return None
    softmax = _sole(graph, graph.behind(node.input[0]), "Softmax")
    if softmax is None or attribute(softmax, "axis", -1) not in (-1, 3):
        return None
    scores, mask = _plus_mask(graph, softmax.input[0])
    scores, scale = _times_scale(graph, scores)
    product = _sole(graph, scores, "MatMul")
    if product is None:
        return None
    q, k = (graph.behind(name) for name in product.input)
    causal = mask is not None and _is_causal(graph, mask)
    return Attention(
        module=module_of(node),
        q=q,
        k_transposed=k,
        v=graph.behind(node.input[1]),
        scale=scale,
        output=node.output[0],
        mask=None if causal else mask,
        causal=causal,
        was_fp8=q != product.input[0],
    )


def _with_tokens(graph: OnnxGraph, attention: Attention) -> tuple[Attention, set[str]] | None:
    """The attention with the transposition, reshaping and quantization after it, and the tensors never computed."""
    if attention.mask is not None or _head_size(graph, attention.q) not in _KERNEL_SIZES:
        return None
    transpose = graph.only_consumer(attention.output)
    if transpose is None or list(attribute(transpose, "perm", [])) != [0, 2, 1, 3]:
        return None
    reshape = graph.only_consumer(transpose.output[0])
    if reshape is None or reshape.op_type != "Reshape" or len(graph.constants[reshape.input[1]].dims) != 1:
        return None
    if graph.array(reshape.input[1]).size != 3:
        return None
    names = {transpose.output[0], reshape.output[0]}
    whole = replace(attention, output=reshape.output[0], tokens=True)
    quantize = graph.only_consumer(reshape.output[0])
    if quantize is not None and quantize.op_type == "QuantizeLinear":
        whole = replace(whole, output=quantize.output[0], out_scale=graph.scalar(quantize.input[1]))
        names.add(quantize.output[0])
    return whole, names


def _head_size(graph: OnnxGraph, q: str) -> int | None:
    """The last number of the constant shape (batch, length, heads, size) before a transposition."""
    transpose = graph.made_by(q, "Transpose")
    reshape = None if transpose is None else graph.made_by(transpose.input[0], "Reshape")
    if reshape is None or reshape.input[1] not in graph.constants:
        return None
    return int(graph.array(reshape.input[1])[-1])


def _sole(graph: OnnxGraph, name: str, op: str) -> NodeProto | None:
    """The node with operator `op` that makes `name`, if `name` has only one consumer."""
    return graph.made_by(name, op) if graph.only_consumer(name) is not None else None


def _plus_mask(graph: OnnxGraph, name: str) -> tuple[str, str | None]:
    """The scores and the mask of a sum, in any order of operands; the mask is the one that is not made by a product."""
    add = _sole(graph, name, "Add")
    if add is None:
        return name, None
    first, second = add.input
    return (first, second) if graph.made_by(first, "Mul") or graph.made_by(first, "MatMul") else (second, first)


def _times_scale(graph: OnnxGraph, name: str) -> tuple[str, float]:
    mul = _sole(graph, name, "Mul")
    if mul is not None:
        for scores, factor in (mul.input, reversed(mul.input)):
            scale = graph.scalar(factor)
            if scale is not None:
                return scores, scale
    return name, 1.0


def _is_causal(graph: OnnxGraph, mask: str) -> bool:
    """Whether a constant mask forbids exactly the later positions."""
    if mask not in graph.constants:
        return False
    values = graph.array(mask).astype(np.float32)
    length = values.shape[-1]
    if values.size != length * length:
        return False
    later = np.triu(np.ones((length, length), bool), 1)
    square = values.reshape(length, length)
    return bool((square[~later] == 0).all() and (square[later] <= _MASKED).all())


# --- q, k and v in one product -----------------------------------------------------------------------------


def _group(graph: OnnxGraph, attention: Attention, linears: dict[str, Linear]) -> LinearGroup | None:
    found = [_linear_before(graph, name, linears) for name in (attention.q, attention.k_transposed, attention.v)]
    members = tuple(linear for linear in found if linear is not None)
    if len(members) != 3 or len({(m.x, m.x_scale, m.bias is None, m.fp8) for m in members}) != 1:
        return None
    if any(graph.only_consumer(member.output) is None for member in members):
        return None
    if all(member.by_channel for member in members):
        return LinearGroup(members, (1.0, 1.0, 1.0))
    own = [m.weight_scale or 1.0 for m in members if not isinstance(m.weight_scale, tuple)]
    if len(own) != 3:
        return None
    factors = tuple(own[2] / scale for scale in own)  # V's output is not rescaled later, so its scale serves all three
    if any(not 1 / _FOLDABLE < factor < _FOLDABLE for factor in factors):
        return None
    return LinearGroup(members, factors)


def _linear_before(graph: OnnxGraph, name: str, linears: dict[str, Linear]) -> Linear | None:
    """The linear layer whose output becomes `name` by reshaping and transposing only."""
    while name not in linears:
        node = graph.producer.get(name)
        if node is None or node.op_type not in ("Reshape", "Transpose") or graph.only_consumer(node.input[0]) is None:
            return None
        name = node.input[0]
    return linears[name]
