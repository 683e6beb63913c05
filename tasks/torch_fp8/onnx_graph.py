"""An exported encoder read from its ONNX file: nodes, constants, and the producers and consumers of tensors."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from artifacts.errors import UnknownOperator

FP8 = TensorProto.FLOAT8E4M3FN


Scale = float | tuple[float, ...]
"""One scale per tensor, or one per element of its last axis, which are the output channels of a MatMul's weight."""


class Scaled(NamedTuple):
    """The name of an FP8 tensor, and the scale to multiply its values with."""

    tensor: str
    scale: Scale


@dataclass(frozen=True)
class Port:
    """An input or output: its name, NumPy's name of its dtype, and its shape without the batch dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class OnnxGraph:
    """One graph. Tensor names are the ONNX file's; node names are `<module>/<op>`."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.opset: int = model.opset_import[0].version
        self.nodes: list[NodeProto] = list(graph.node)
        self.constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [_port(value) for value in graph.input]
        self.outputs = [_port(value) for value in graph.output]
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.consumers[name].append(node)

    @classmethod
    def load(cls, path: Path) -> OnnxGraph:
        """Read a file and, if it has any, its external data."""
        return cls(onnx.load(str(path)))

    def array(self, name: str) -> NDArray[Any]:
        """A constant's values."""
        return numpy_helper.to_array(self.constants[name])

    def scalar(self, name: str) -> float | None:
        """A constant's value if it is a single number, else None."""
        tensor = self.constants.get(name)
        return float(self.array(name)) if tensor is not None and not tensor.dims else None

    def made_by(self, name: str, op: str) -> NodeProto | None:
        """The node that makes a tensor, if its operator is `op`, else None."""
        node = self.producer.get(name)
        return node if node is not None and node.op_type == op else None

    def only_consumer(self, name: str) -> NodeProto | None:
        """The only node that uses a tensor; None if several do, or if it is an output of the graph."""
        users = self.consumers[name]
        return users[0] if len(users) == 1 and name not in {port.name for port in self.outputs} else None

    def dequantized(self, name: str) -> Scaled | None:
        """The FP8 tensor and scale of the DequantizeLinear that makes a tensor; None if another node makes it."""
        node = self.made_by(name, "DequantizeLinear")
        return None if node is None else Scaled(node.input[0], self.scale_of(node))

    def behind(self, name: str) -> str:
        """The tensor before a QuantizeLinear and DequantizeLinear pair, or the tensor itself."""
        dequantized = self.dequantized(name)
        quantize = None if dequantized is None else self.made_by(dequantized.tensor, "QuantizeLinear")
        return name if quantize is None else quantize.input[0]

    def scale_of(self, dequantize: NodeProto) -> Scale:
        """The scale or scales of a DequantizeLinear.

        Raises:
            UnknownOperator: there are several scales, and they are not one per column of a constant matrix.
        """
        scale = self.array(dequantize.input[1])
        weight = self.constants.get(dequantize.input[0])
        columns = weight is not None and len(weight.dims) == 2 and attribute(dequantize, "axis", 1) == 1
        if scale.ndim and not columns:
            raise UnknownOperator(
                f"{dequantize.name} has scales along another axis than a weight's output channels",
                expected="a graph that clipsmith exported",
                fix="export the model with this version of clipsmith",
            )
        return tuple(scale.tolist()) if scale.ndim else float(scale)


def module_of(node: NodeProto) -> str:
    """The module path in a node's name: `a.b.fc1/MatMul` -> `a.b.fc1`."""
    return node.name.partition("/")[0]


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, or `default` when it is absent."""
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def random_inputs(graph: OnnxGraph, batch: int, seed: int) -> dict[str, NDArray[Any]]:
    """Random inputs: normal pixels, token ids over the whole vocabulary, and masks that hide nothing; never zeros."""
    rng = np.random.default_rng(seed)
    feed: dict[str, NDArray[Any]] = {}
    for port in graph.inputs:
        shape = (batch, *port.shape)
        if port.dtype.startswith("float"):
            feed[port.name] = rng.standard_normal(shape).astype(port.dtype)
        elif port.name == "attention_mask":
            feed[port.name] = np.ones(shape, port.dtype)
        else:
            feed[port.name] = rng.integers(1, _vocabulary(graph, port.name), shape).astype(port.dtype)
    return feed


def _vocabulary(graph: OnnxGraph, ids: str) -> int:
    """The number of rows of the embedding table that `ids` are looked up in, also after reshaping or casting."""
    names = [ids]
    while names:
        name = names.pop()
        for node in graph.consumers[name]:
            if node.op_type == "Gather" and node.input[1] == name:
                dequantized = graph.dequantized(node.input[0])
                return int(graph.constants[node.input[0] if dequantized is None else dequantized.tensor].dims[0])
            if node.op_type in ("Reshape", "Cast"):
                names.append(node.output[0])
    raise UnknownOperator(f"{ids} looks up no table", expected="token ids", fix="export the model again")


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return Port(value.name, str(dtype), tuple(d.dim_value for d in tensor.shape.dim[1:]))
