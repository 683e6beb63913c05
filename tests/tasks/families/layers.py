"""One layer at a time: cut out of a graph, and recorded from ModelOpt's model with the inputs it really gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

from artifacts.manifest import Encoder
from tasks.clip.hugging_face import ClipFamily
from tasks.graph.skeleton import Module
from tests.tasks.families.support import tensors

_OPERANDS = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"))


class Recording:
    """Input and output of every module in one forward pass."""

    def __init__(self, model: Any, family: ClipFamily, encoder: Encoder, feed: dict[str, np.ndarray]) -> None:
        self.inputs: dict[str, np.ndarray] = {}
        self.outputs: dict[str, np.ndarray] = {}
        self.biases = {n: m.bias.detach().numpy() if m.bias is not None else 0 for n, m in _linears(model)}
        hooks = [module.register_forward_hook(self._hook(name)) for name, module in _linears(model)]
        with torch.no_grad():
            family.encode(model, encoder, *tensors(feed))
        for hook in hooks:
            hook.remove()

    def _hook(self, name: str) -> Any:
        def record(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self.inputs[name], self.outputs[name] = inputs[0].numpy(), output.numpy()

        return record


def _linears(model: Any) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]


def cut(
    model: onnx.ModelProto, module: Module, teacher: Recording, feed: dict[str, np.ndarray]
) -> tuple[onnx.ModelProto, dict[str, np.ndarray], np.ndarray]:
    """A module's nodes as a graph of their own, the inputs it had in the teacher, and what the teacher made of them.

    A linear layer goes without its bias, which would drown the product.
    """
    made = {name: node for node in model.graph.node for name in node.output}
    nodes = {node.name: node for node in model.graph.node}
    if module.kind == "linear":
        source = _before_quantizer(nodes[f"{module.name}/MatMul"].input[0], made)
        piece = _extract(model, [source], [nodes[f"{module.name}/MatMul"].output[0]])
        return piece, {source: teacher.inputs[module.name]}, teacher.outputs[module.name] - teacher.biases[module.name]
    (operands,) = [names for names in _OPERANDS if f"{module.name}.{names[0]}" in teacher.outputs]
    inputs = {_output(f"{module.name}.{name}", nodes): teacher.outputs[f"{module.name}.{name}"] for name in operands}
    after = f"{module.name}.out_proj"
    if after not in teacher.inputs:
        after = f"{module.name.removesuffix('.self')}.output.dense"
    end = _before_quantizer(nodes[f"{after}/MatMul"].input[0], made)
    masks = {name: values for name, values in feed.items() if name != "pixel_values"}  # they are made of ids or a mask
    return _extract(model, [*inputs, *masks], [end]), inputs | masks, teacher.inputs[after]


def _before_quantizer(tensor: str, made: dict[str, onnx.NodeProto]) -> str:
    while tensor in made and made[tensor].op_type in ("QuantizeLinear", "DequantizeLinear"):
        tensor = made[tensor].input[0]
    return tensor


def _output(linear: str, nodes: dict[str, onnx.NodeProto]) -> str:
    return (nodes.get(f"{linear}/Add") or nodes[f"{linear}/MatMul"]).output[0]


def _extract(model: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    return onnx.utils.Extractor(model).extract_model(inputs, outputs)


def in_fp32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same numbers computed in FP32, so that quantization is all that can differ from ModelOpt's FP32 model."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*wide.graph.input, *wide.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    del wide.graph.value_info[:]
    return wide


def in_fp32_feed(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Pixels in FP32."""
    return {name: v.astype(np.float32) if v.dtype == np.float16 else v for name, v in feed.items()}
