"""What a graph holds, read only from the file with onnx-graphsurgeon: products, their operands, Q/DQ placement."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from artifacts.manifest import Precision
from tasks.graph.skeleton import module_of

_FP8 = onnx.TensorProto.FLOAT8E4M3FN
_WEIGHT_SUFFIXES = (".weight.T", ".weight")
_Scales = dict[str, NDArray[np.float16]]
"""The scales of Q and DQ nodes by name: scalars or 1-D arrays."""
_BYTES = {_FP8: ("fp8", 1), onnx.TensorProto.FLOAT16: ("fp16", 2)}


@dataclass(frozen=True)
class Found:
    """One product (or plain weight): its node, precision, the scales of its two operands, its weight's size in bytes.

    `by_channel`: the second operand has one scale per column, and `second_scale` is the largest.
    """

    node: str
    precision: Precision | Literal["mixed"]
    first_scale: float | None = None
    second_scale: float | None = None
    weight_bytes: int = 0
    by_channel: bool = False


@dataclass
class GraphFindings:
    """Everything that the audit checks; `products` maps (module, kind) to what was found under that name."""

    inputs: str
    outputs: str
    products: dict[tuple[str, str], list[Found]] = field(default_factory=lambda: defaultdict(list))
    misplaced: list[str] = field(default_factory=list)
    weight_bytes: dict[str, int] = field(default_factory=lambda: {"fp8": 0, "fp16": 0, "other": 0})


def read_findings(model: onnx.ModelProto) -> GraphFindings:
    """Collect the findings of a model; its external data need not be loaded."""
    sizes = _initializer_bytes(model)
    used = {node.input[1] for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    scales: _Scales = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name in used and len(tensor.dims) <= 1 and tensor.data_type == onnx.TensorProto.FLOAT16
    }
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    graph = gs.import_onnx(model)
    findings = GraphFindings(inputs=_signature(graph.inputs), outputs=_signature(graph.outputs))
    for dtype, size in sizes.values():
        findings.weight_bytes[dtype] += size
    for node in graph.nodes:
        if node.op in ("MatMul", "Gemm"):
            module, kind = _identify(node)
            findings.products[module, kind].append(_product(node, scales, sizes))
        elif node.op == "Conv":
            findings.products[_weight_module(node.inputs[1]), "conv"].append(_plain(node, node.inputs[1], sizes))
        elif node.op == "Gather" and isinstance(_source(node.inputs[0]), gs.Constant):
            table = _source(node.inputs[0])
            if table.name.endswith(_WEIGHT_SUFFIXES):
                findings.products[_weight_module(table), "embedding"].append(_plain(node, table, sizes))
        elif node.op in ("QuantizeLinear", "DequantizeLinear"):
            problem = _not_fp8(node, types) or _odd_channels(node, scales) or _misplaced(node, scales)
            if problem:
                findings.misplaced.append(problem)
    return findings


def _signature(tensors: list[gs.Tensor]) -> str:
    return ", ".join(f"{t.name} [{', '.join(map(str, t.shape))}] {t.dtype}" for t in tensors)


def _initializer_bytes(model: onnx.ModelProto) -> dict[str, tuple[str, int]]:
    result = {}
    for tensor in model.graph.initializer:
        other = ("other", onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        name, width = _BYTES.get(tensor.data_type, other)
        result[tensor.name] = (name, math.prod(tensor.dims) * width)
    return result


def _producer(tensor: gs.Tensor) -> gs.Node | None:
    return tensor.inputs[0] if tensor.inputs else None


def _source(tensor: gs.Tensor) -> gs.Tensor:
    """The tensor behind a DequantizeLinear, or the tensor itself."""
    node = _producer(tensor)
    return node.inputs[0] if node is not None and node.op == "DequantizeLinear" else tensor


def _weight_module(tensor: gs.Tensor) -> str:
    name: str = _source(tensor).name
    return name.removesuffix(".T").removesuffix(".weight") if name.endswith(_WEIGHT_SUFFIXES) else name


def _identify(node: gs.Node) -> tuple[str, str]:
    """(module, kind) of a product: a linear layer is identified by its weight, an attention product by the origin of
    its first operand."""
    for tensor in node.inputs[:2]:
        if isinstance(_source(tensor), gs.Constant):
            return _weight_module(tensor), "linear"
    behind = _producer(node.inputs[0])
    if behind is not None and behind.op == "DequantizeLinear":
        quantize = _producer(behind.inputs[0])
        behind = _producer(quantize.inputs[0]) if quantize is not None else None
    return module_of(node.name), "bmm_pv" if behind is not None and behind.op == "Softmax" else "bmm_qk"


def _product(node: gs.Node, scales: _Scales, sizes: dict[str, tuple[str, int]]) -> Found:
    behind = [_producer(tensor) for tensor in node.inputs[:2]]
    found = [scales.get(n.inputs[1].name) if n is not None and n.op == "DequantizeLinear" else None for n in behind]
    first, second = (None if scale is None else float(scale.max()) for scale in found)
    quantized = [value is not None for value in (first, second)]
    precision: Precision | Literal["mixed"] = "fp8" if all(quantized) else "mixed" if any(quantized) else "fp16"
    weight = sum(sizes[name][1] for name in (_source(t).name for t in node.inputs[:2]) if name in sizes)
    by_channel = found[1] is not None and found[1].ndim > 0
    return Found(node.name, precision, first, second, weight, by_channel)


def _plain(node: gs.Node, weight: gs.Tensor, sizes: dict[str, tuple[str, int]]) -> Found:
    dtype, size = sizes[_source(weight).name]
    return Found(node.name, "fp8" if dtype == "fp8" else "fp16", weight_bytes=size)


def _looks_up(gather: gs.Node, dequantize: gs.Node) -> bool:
    """Whether `gather` reads rows of the constant table that `dequantize` dequantizes."""
    table = dequantize.outputs[0]
    return gather.op == "Gather" and gather.inputs[0] is table and isinstance(dequantize.inputs[0], gs.Constant)


def _not_fp8(node: gs.Node, types: dict[str, int]) -> str | None:
    """What a Q or DQ node works in, if not FP8, by the type of its zero point (UINT8 without one); else None."""
    if len(node.inputs) > 2 and types.get(node.inputs[2].name) == _FP8:
        return None
    return f"{node.name} is not FP8 E4M3"


def _listed(node: gs.Node, scales: _Scales) -> list[float] | float | None:
    """The scales of a Q or DQ node, in a form that can be compared with ==."""
    scale = scales.get(node.inputs[1].name)
    return None if scale is None else scale.tolist()


def _odd_channels(node: gs.Node, scales: _Scales) -> str | None:
    """The error if a Q or DQ node has several scales that are not one per column of a constant right operand of a
    MatMul; else None."""
    scale = scales.get(node.inputs[1].name)
    if scale is None or not scale.ndim:
        return None
    weight = node.inputs[0]
    right = all(user.op == "MatMul" and user.inputs[1] is node.outputs[0] for user in node.outputs[0].outputs)
    columns = isinstance(weight, gs.Constant) and len(weight.shape) == 2 and weight.shape[1] == scale.size
    if node.op == "DequantizeLinear" and right and columns and node.attrs.get("axis", 1) == 1:
        return None
    return f"{node.name} has {scale.size} scales, and they are not those of a weight's columns"


def _misplaced(node: gs.Node, scales: _Scales) -> str | None:
    """What is wrong with the placement of a Q or DQ node; None if nothing is."""
    consumers = [consumer for tensor in node.outputs for consumer in tensor.outputs]
    if not consumers:
        return f"{node.name} feeds nothing"
    if node.op == "QuantizeLinear":
        bad = [c for c in consumers if c.op != "DequantizeLinear"]
        return f"{node.name} feeds {bad[0].name}" if bad else None
    bad = [c for c in consumers if c.op not in ("MatMul", "Gemm") and not _looks_up(c, node)]
    if bad:
        return f"{node.name} feeds {bad[0].op} node {bad[0].name}"
    behind = _producer(node.inputs[0])
    if behind is not None and behind.op != "QuantizeLinear":
        return f"{node.name} reads {behind.op} node {behind.name}"
    if behind is not None and _listed(behind, scales) != _listed(node, scales):
        return f"{node.name} has another scale than {behind.name}"
    return None
