"""The roofline: a lower limit of latency from operations and bytes in the graph, and rates measured on this device.

The limit of a product is the larger of its operations divided by the matrix rate, and its bytes (operands read once,
result written once, each at its own width) divided by the bandwidth. The encoder's limit is the sum over its products.
Operations between products cost nothing in this limit, as a perfect compiler would fuse them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper

from tasks.bench.gpu_timing import Run, milliseconds
from tasks.torch_fp8.onnx_graph import OnnxGraph, attribute, module_of

_SMALL = 1024
"""Constants with at most this many elements may be shapes, whose values shape inference needs."""
_SIDE = 8192
_COPY_BYTES = 2 << 30
_REPEATS = 20


@dataclass(frozen=True)
class Product:
    """One matrix product (or convolution) of a batch: its 2 m n k operations, and the bytes that it must move."""

    module: str
    kind: str
    """linear, attention or conv."""
    fp8: bool
    flops: int
    bytes: int


@dataclass(frozen=True)
class DeviceRates:
    """Measured rates of the device: operations per second with FP16 and FP8 operands, bytes per second."""

    fp16: float
    fp8: float | None
    bandwidth: float


def count_products(graph: OnnxGraph, batch: int) -> list[Product]:
    """Every product of the graph at a batch size."""
    shapes = _shapes(graph, batch)
    found = []
    for node in graph.nodes:
        if node.op_type == "MatMul":
            found.append(_matmul(graph, node, shapes))
        elif node.op_type == "Conv":
            found.append(_conv(graph, node, shapes))
    return found


def limit_seconds(products: Iterable[Product], rates: DeviceRates, *, attention_fp8: bool = True) -> float:
    """The least time in seconds for these products; attention at the FP16 rate if the target has no FP8 attention."""
    total = 0.0
    for product in products:
        fp8 = product.fp8 and rates.fp8 is not None and (attention_fp8 or product.kind != "attention")
        rate = rates.fp8 if fp8 and rates.fp8 is not None else rates.fp16
        total += max(product.flops / rate, product.bytes / rates.bandwidth)
    return total


def _matmul(graph: OnnxGraph, node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> Product:
    first, second = node.input
    fp8 = all(graph.dequantized(name) is not None for name in node.input)
    a, b, out = shapes[first], shapes[second], shapes[node.output[0]]
    weight = graph.dequantized(second)
    constant = (weight.tensor if weight is not None else second) in graph.constants
    width = 1 if fp8 else 2
    moved = width * (_size(a) + _size(b)) + 2 * _size(out)
    return Product(module_of(node), "linear" if constant else "attention", fp8, 2 * _size(out) * a[-1], moved)


def _conv(graph: OnnxGraph, node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> Product:
    weight = graph.constants[node.input[1]].dims
    out = shapes[node.output[0]]
    flops = 2 * _size(out) * _size(weight[1:]) // attribute(node, "group", 1)
    return Product(
        module_of(node), "conv", False, flops, 2 * (_size(shapes[node.input[0]]) + _size(weight) + _size(out))
    )


def _size(shape: Iterable[int]) -> int:
    return int(np.prod(list(shape), dtype=np.int64))


def _shapes(graph: OnnxGraph, batch: int) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor, inferred by ONNX on a copy in which large constants have no values."""
    light = onnx.GraphProto(name="shapes")
    light.node.extend(graph.nodes)
    for name, tensor in graph.constants.items():
        if _size(tensor.dims) <= _SMALL:
            light.initializer.append(tensor)
        else:
            light.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    for port in graph.inputs:
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
        light.input.append(helper.make_tensor_value_info(port.name, dtype, [batch, *port.shape]))
    for port in graph.outputs:
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
        light.output.append(helper.make_tensor_value_info(port.name, dtype, [batch, *port.shape]))
    model = helper.make_model(light, opset_imports=[helper.make_opsetid("", graph.opset)])
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    # The only size that inference loses (after a Tile) is the batch.
    known = {v.name: tuple(d.dim_value or batch for d in v.type.tensor_type.shape.dim) for v in values}
    return known | {name: tuple(tensor.dims) for name, tensor in graph.constants.items()}


# --- the device --------------------------------------------------------------------------------------------


def measure_rates() -> DeviceRates:
    """Measure a square product of random numbers in FP16 and FP8, and a copy too large for any cache, in about 1 s."""
    import torch

    x, y = (torch.randn(_SIDE, _SIDE, device="cuda", dtype=torch.float16) for _ in range(2))
    flops = 2 * _SIDE**3
    fp16 = flops / _seconds(lambda _: x @ y)
    fp8 = None
    if torch.cuda.get_device_capability() >= (8, 9):
        a, b = x.to(torch.float8_e4m3fn), y.to(torch.float8_e4m3fn)
        one = torch.ones((), device="cuda")

        fp8 = flops / _seconds(
            lambda _: torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.float16, use_fast_accum=True)
        )
    source = torch.empty(_COPY_BYTES // 4, device="cuda").normal_()
    target = torch.empty_like(source)
    return DeviceRates(fp16, fp8, 2 * _COPY_BYTES / _seconds(lambda _: target.copy_(source)))


def _seconds(work: Run) -> float:
    """The median time of single runs in seconds, by CUDA events."""
    times = [milliseconds(work, index) for index in range(_REPEATS)]
    return float(np.median(times[_REPEATS // 4 :])) / 1e3
