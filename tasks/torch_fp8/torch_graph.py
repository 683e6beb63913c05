"""One of our ONNX encoders as a `torch.nn.Module`: weights are buffers, and each step is one call.

`load(path, device)` gives the form that a GPU should run: FP8 products by `torch._scaled_mm`, attention by
scaled_dot_product_attention, and the rest in plain PyTorch, which a compiler fuses. With `fused=False` every node is
computed by itself, dequantized, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto

from artifacts.errors import UnknownOperator
from tasks.torch_fp8.onnx_graph import FP8, OnnxGraph, Scale, attribute
from tasks.torch_fp8.patterns import ActivatedLinear, Attention, Linear, LinearGroup, Plan, fused_plan, literal_plan

if TYPE_CHECKING:
    import torch

_ALIGNMENT = 8
"""Rows of a product's operands should be a multiple of this many FP16 elements, for 16-byte loads."""
_SHAPE_SIZE = 8
"""A 1-D constant of at most this many integers counts as a shape or a list of axes."""


@dataclass(frozen=True)
class Loaded:
    """An encoder that is ready to run, with its graph and its plan."""

    module: torch.nn.Module
    graph: OnnxGraph
    plan: Plan
    tensors: dict[str, str]
    """The names of ONNX tensors, by the names of the module's `torch.fx` nodes."""


def load(path: Path, device: str, *, fused: bool = True, kernels: bool = False) -> Loaded:
    """Load an ONNX file onto a device; `kernels` says whether our own Triton kernels may be used.

    Raises:
        UnknownOperator: the graph has a node that clipsmith's export does not write.
    """
    graph = OnnxGraph.load(path)
    return _emitted(_Emitter(graph, device), fused_plan(graph, kernels=kernels) if fused else literal_plan(graph))


def load_literal(path: Path, device: str) -> Loaded:
    """Load an ONNX file for evaluation: every node by itself, but weights are dequantized once, while loading.

    A GPU computes in FP16 and accumulates products in FP32. A CPU computes in FP32 between the graph's inputs and
    outputs, like ONNX Runtime's kernels, and rounds where the graph has a QuantizeLinear and a DequantizeLinear.

    Raises:
        UnknownOperator: the graph has a node that clipsmith's export does not write.
    """
    graph = OnnxGraph.load(path)
    return _emitted(_LiteralEmitter(graph, device), literal_plan(graph))


def _emitted(emitter: _Emitter, plan: Plan) -> Loaded:
    module = emitter.run(plan)
    return Loaded(module, emitter.source, plan, emitter.tensor_names())


class _Emitter:
    """Writes a `torch.fx` graph, one call per step; values are graph nodes, or Python lists and numbers for sizes."""

    def __init__(self, graph: OnnxGraph, device: str) -> None:
        import torch

        from tasks.torch_fp8 import torch_ops

        self.ops = torch_ops
        self.F = torch.nn.functional
        self.source = graph
        self.device = device
        self.half = torch.float16
        """The dtype in which FP16 values are computed."""
        self.root = torch.nn.Module()
        self.fx = torch.fx.Graph()
        self.values: dict[str, Any] = {}
        self.buffers: dict[str, Any] = {}

    def run(self, plan: Plan) -> torch.nn.Module:
        import torch

        for port in self.source.inputs:
            self.values[port.name] = self._widened(self.fx.placeholder(port.name), port.dtype)
        for step in plan.steps:
            if isinstance(step, Linear):
                self.values[step.output] = self._product([step], step.weight_scale)
            elif isinstance(step, LinearGroup):
                self._group(step)
            elif isinstance(step, ActivatedLinear):
                self._activated(step)
            elif isinstance(step, Attention):
                self._attention(step)
            else:
                self._node(step)
        output = self._tensor(self.source.outputs[0].name)
        self.fx.output(output if self.half == torch.float16 else self.fx.call_method("to", (output, torch.float16)))
        self.fx.eliminate_dead_code()
        module = torch.fx.GraphModule(self.root, self.fx, "Encoder")
        module.delete_all_unused_submodules()
        used = {node.target for node in self.fx.nodes if node.op == "get_attr"}
        for key in [name for name, _ in module.named_buffers() if name not in used]:
            delattr(module, key)
        return module.eval()

    def tensor_names(self) -> dict[str, str]:
        """The names of ONNX tensors, by the names of graph nodes."""
        return {value.name: name for name, value in self.values.items() if hasattr(value, "name")}

    # --- values

    def _widened(self, value: Any, dtype: str) -> Any:
        """An input converted to the dtype in which FP16 values are computed."""
        import torch

        if dtype != "float16" or self.half == torch.float16:
            return value
        return self.fx.call_method("to", (value, self.half))

    def _tensor(self, name: str) -> Any:
        """A tensor value; a constant becomes a buffer on first use."""
        if name not in self.values:
            self.values[name] = self._buffer(name, self._torch_constant(name))
        return self.values[name]

    def _torch_constant(self, name: str) -> torch.Tensor:
        import torch

        values = self.source.array(name)
        if self.source.constants[name].data_type == FP8:
            return torch.from_numpy(values.view(np.uint8).copy()).view(torch.float8_e4m3fn)
        tensor = torch.from_numpy(np.array(values))
        return tensor.to(self.half) if tensor.dtype == torch.float16 else tensor

    def _buffer(self, name: str, values: torch.Tensor) -> Any:
        key = f"w{len(self.buffers)}_{''.join(c if c.isalnum() else '_' for c in name)}"
        self.root.register_buffer(key, values.to(self.device))
        self.buffers[key] = self.fx.get_attr(key)
        return self.buffers[key]

    def _operand(self, name: str) -> Any:
        """A tensor, or a plain number for a scalar constant."""
        scalar = self.source.scalar(name)
        if scalar is None:
            return self._tensor(name)
        return int(scalar) if self.source.constants[name].data_type == 7 else scalar

    def _sizes(self, name: str) -> list[Any]:
        """A list of sizes or axes."""
        if name in self.values:
            return self.values[name]
        return [int(value) for value in self.source.array(name).reshape(-1)]

    def _is_sizes(self, name: str) -> bool:
        if name in self.values:
            return isinstance(self.values[name], list)
        tensor = self.source.constants[name]
        return tensor.data_type == 7 and len(tensor.dims) == 1 and tensor.dims[0] <= _SHAPE_SIZE

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.fx.call_function(function, arguments)

    # --- steps

    def _group(self, step: LinearGroup) -> None:
        """One product; each member's output is a slice of it, `factor` times too large."""
        own = [member.weight_scale for member in step.members]
        channels = tuple(scale for scales in own if isinstance(scales, tuple) for scale in scales)
        product = self._product(step.members, channels or own[-1], step.factors)
        start = 0
        for member in step.members:
            end = start + int(self.source.constants[member.weight].dims[1])
            self.values[member.output] = self.fx.call_method("narrow", (product, -1, start, end - start))
            start = end

    def _product(self, members: Sequence[Linear], scale: Scale | None, factors: tuple[float, ...] = (1.0,)) -> Any:
        """One product for all members; `scale` is the weights' scale that the kernel uses."""
        weight, bias = self._weights(members, factors)
        first = members[0]
        if not first.fp8:
            return self._call(self.F.linear, self._tensor(first.x), weight, bias)
        product = self.ops.linear_fp8_by_channel if isinstance(scale, tuple) else self.ops.linear_fp8
        scales = (self._scale(f"{first.module}.x_scale", first.x_scale), self._scale(f"{first.module}.scale", scale))
        return self._call(product, self._tensor(first.x), weight, *scales, bias)

    def _weights(self, members: Sequence[Linear], factors: tuple[float, ...]) -> tuple[Any, Any]:
        """Buffers of the weights, (all out, in), and of the biases, which are multiplied by `factor`."""
        import torch

        first = members[0]
        dtype = torch.float8_e4m3fn if first.fp8 else torch.float16
        # FP8 is handled as bytes, as few operations support it.
        parts = [self._torch_constant(m.weight).view(torch.uint8 if first.fp8 else torch.float16).t() for m in members]
        weight = self._buffer(first.weight, torch.cat(parts).contiguous().view(dtype))
        named = [(self._torch_constant(m.bias), f) for m, f in zip(members, factors, strict=True) if m.bias is not None]
        if not named:
            return weight, None
        return weight, self._buffer(f"{first.module}.bias", torch.cat([(b.float() * f).half() for b, f in named]))

    def _scale(self, name: str, value: Scale | None) -> Any:
        import torch

        return self._buffer(name, torch.tensor(value, dtype=torch.float32))

    def _multiplier(self, name: str, scale: Scale) -> Any:
        """A plain number for a single scale, else a buffer."""
        return self._scale(name, scale) if isinstance(scale, tuple) else scale

    def _activated(self, step: ActivatedLinear) -> None:
        from tasks.torch_fp8.fused_ops import linear_activated

        linear = step.linear
        weight, bias = self._weights([linear], (1.0,))
        assert linear.x_scale is not None and isinstance(linear.weight_scale, float)  # so `ActivatedLinear` is made
        scale = linear.x_scale * linear.weight_scale
        x = self._tensor(linear.x)
        self.values[step.output] = self._call(linear_activated, x, weight, bias, scale, step.out_scale, step.activation)

    def _attention(self, step: Attention) -> None:
        q, k, v = (self._tensor(name) for name in (step.q, step.k_transposed, step.v))
        if step.tokens:
            from tasks.torch_fp8.fused_ops import attention_tokens

            self.values[step.output] = self._call(attention_tokens, q, k, v, step.scale, step.causal, step.out_scale)
            return
        mask = None if step.mask is None else self._tensor(step.mask)
        self.values[step.output] = self._call(self.ops.attention, q, k, v, mask, step.scale, step.causal)

    def _node(self, node: NodeProto) -> None:
        if node.op_type in self.ops.BINARY:
            first, second = (self._operand(name) for name in node.input)
            value = self._call(self.ops.BINARY[node.op_type], first, second)
        elif node.op_type in self.ops.UNARY:
            value = self._call(self.ops.UNARY[node.op_type], self._tensor(node.input[0]))
        elif node.op_type in self.ops.SIZED:
            value = self._call(self.ops.SIZED[node.op_type], self._tensor(node.input[0]), self._sizes(node.input[1]))
        else:
            emit = getattr(self, f"_emit_{node.op_type.lower()}", None)
            if emit is None:
                raise UnknownOperator(
                    f"operator {node.op_type} has no counterpart in torch-fp8 yet",
                    where=node.name,
                    expected="a graph that clipsmith exported",
                    fix="export the model with this version of clipsmith",
                )
            value = emit(node)
        self.values[node.output[0]] = value

    # --- nodes: sizes

    def _emit_shape(self, node: NodeProto) -> Any:
        start, end = attribute(node, "start", 0), attribute(node, "end", None)
        x = self._tensor(node.input[0])
        return [self.fx.call_method("size", (x, axis)) for axis in range(start, end)]

    def _emit_squeeze(self, node: NodeProto) -> Any:
        if self._is_sizes(node.input[0]):
            return self._sizes(node.input[0])[0]
        (axis,) = self._sizes(node.input[1])
        return self.fx.call_method("squeeze", (self._tensor(node.input[0]), axis))

    def _emit_concat(self, node: NodeProto) -> Any:
        import torch

        if all(self._is_sizes(name) for name in node.input):
            return [size for name in node.input for size in self._sizes(name)]
        return self._call(torch.cat, [self._tensor(name) for name in node.input], attribute(node, "axis", 0))

    def _emit_range(self, node: NodeProto) -> Any:
        import torch

        bounds = tuple(self.values.get(name) or int(self.source.array(name)) for name in node.input)
        return self.fx.call_function(torch.arange, bounds, {"device": self.device})

    # --- nodes: form

    def _emit_transpose(self, node: NodeProto) -> Any:
        return self.fx.call_method("permute", (self._tensor(node.input[0]), list(attribute(node, "perm", []))))

    def _emit_slice(self, node: NodeProto) -> Any:
        import torch

        value = self._tensor(node.input[0])
        starts, ends, axes = (self._sizes(name) for name in node.input[1:4])
        steps = self._sizes(node.input[4]) if len(node.input) > 4 else [1] * len(axes)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            value = self._call(torch.ops.aten.slice.Tensor, value, axis, start, end, step)
        return value

    def _emit_cast(self, node: NodeProto) -> Any:
        import torch

        dtype = self.ops.ONNX_DTYPES[attribute(node, "to", 1)]
        return self.fx.call_method("to", (self._tensor(node.input[0]), self.half if dtype == torch.float16 else dtype))

    def _emit_gather(self, node: NodeProto) -> Any:
        scaled = self.source.dequantized(node.input[0])
        if scaled is not None and scaled.tensor in self.source.constants:
            table, ids = self._tensor(scaled.tensor), self._tensor(node.input[1])
            return self._call(self.ops.look_up_fp8, table, ids, self._multiplier(node.input[0], scaled.scale))
        return self._gathered(node)

    def _gathered(self, node: NodeProto) -> Any:
        axis, table, row = attribute(node, "axis", 0), self._tensor(node.input[0]), self.source.scalar(node.input[1])
        if row is not None:
            return self.fx.call_method("select", (table, axis, int(row)))
        return self._call(self.ops.gather, table, self._tensor(node.input[1]), axis)

    def _emit_gatherelements(self, node: NodeProto) -> Any:
        x, indices = (self._tensor(name) for name in node.input)
        return self.fx.call_method("gather", (x, attribute(node, "axis", 0), indices))

    def _emit_gathernd(self, node: NodeProto) -> Any:
        return self._call(self.ops.gather_nd, *(self._tensor(name) for name in node.input))

    # --- nodes: arithmetic

    def _emit_quantizelinear(self, node: NodeProto) -> Any:
        return self._call(self.ops.quantize, self._tensor(node.input[0]), self.source.scalar(node.input[1]))

    def _emit_dequantizelinear(self, node: NodeProto) -> Any:
        scale = self._multiplier(node.input[1], self.source.scale_of(node))
        return self._call(self.ops.dequantize, self._tensor(node.input[0]), scale)

    def _emit_layernormalization(self, node: NodeProto) -> Any:
        operands = [self._tensor(name) for name in node.input]
        bias = operands[2] if len(operands) > 2 else None
        return self._call(self.ops.layer_norm, operands[0], operands[1], bias, attribute(node, "epsilon", 1e-5))

    def _emit_softmax(self, node: NodeProto) -> Any:
        return self._call(self.ops.softmax, self._tensor(node.input[0]), attribute(node, "axis", -1))

    def _emit_gelu(self, node: NodeProto) -> Any:
        approximate = {"approximate": attribute(node, "approximate", b"none").decode()}
        return self.fx.call_function(self.F.gelu, (self._tensor(node.input[0]),), approximate)

    def _emit_reducemean(self, node: NodeProto) -> Any:
        x, axes = self._tensor(node.input[0]), self._sizes(node.input[1])
        return self.fx.call_method("mean", (x, axes, bool(attribute(node, "keepdims", 1))))

    def _emit_argmax(self, node: NodeProto) -> Any:
        axis, keep = attribute(node, "axis", 0), bool(attribute(node, "keepdims", 1))
        return self.fx.call_method("argmax", (self._tensor(node.input[0]), axis, keep))

    def _emit_cumsum(self, node: NodeProto) -> Any:
        import torch

        return self._call(torch.cumsum, self._tensor(node.input[0]), int(self.source.array(node.input[1])))

    def _emit_conv(self, node: NodeProto) -> Any:
        x, bias = self._tensor(node.input[0]), self._tensor(node.input[2]) if len(node.input) > 2 else None
        kernel, stride = attribute(node, "kernel_shape", []), attribute(node, "strides", [])
        pads = attribute(node, "pads", [0, 0, 0, 0])
        if kernel == stride and not any(pads):
            weight = self._torch_constant(node.input[1]).flatten(1)
            padded = self._buffer(node.input[1], self.F.pad(weight, (0, -weight.shape[1] % _ALIGNMENT)))
            return self._call(self.ops.patches, x, padded, bias, tuple(kernel))
        return self._call(self.F.conv2d, x, self._tensor(node.input[1]), bias, tuple(stride), tuple(pads[:2]))


class _LiteralEmitter(_Emitter):
    """The emitter of `load_literal`."""

    def __init__(self, graph: OnnxGraph, device: str) -> None:
        import torch

        super().__init__(graph, device)
        if torch.device(device).type == "cpu":
            self.half = torch.float32

    def _emit_dequantizelinear(self, node: NodeProto) -> Any:
        stored = self.source.constants.get(node.input[0])
        scale = self.source.scale_of(node)
        if stored is not None:
            import torch

            values = self.ops.dequantize(self._torch_constant(stored.name), torch.tensor(scale))
            return self._buffer(node.output[0], values.to(self.half))
        quantize = self.source.producer[node.input[0]]
        scales = (self.source.scalar(quantize.input[1]), scale)
        return self._call(self.ops.round_trip, self._tensor(quantize.input[0]), *scales)

    def _emit_gather(self, node: NodeProto) -> Any:
        return self._gathered(node)
