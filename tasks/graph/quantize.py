"""Rewriting a skeleton for FP8: inserts Q/DQ pairs where TensorRT's FP8 kernels need them.

Weights become FP8 initializers followed by a DequantizeLinear, with one scale or one per output channel; each
activation gets QuantizeLinear + DequantizeLinear directly before its MatMul, with nothing between DQ and MatMul
(TensorRT documentation, "Working with Quantized Types", explicit quantization). Modules that share an activation (q, k
and v read one LayerNorm output) share one pair if their scales are equal. An embedding table may be FP8 too, with
a DequantizeLinear before its Gather.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from artifacts.errors import BadAmax, ExportError
from tasks.graph.channels import Amax
from tasks.graph.fp8 import Scale, scale_for
from tasks.graph.skeleton import Skeleton, module_of
from tasks.quantizing.recipe import Fp8, Owner, Recipe

_ZERO = "fp8_zero_point"


def quantize(skeleton: Skeleton, recipe: Recipe, amax: Mapping[str, Amax]) -> Skeleton:
    """A new skeleton with the recipe's quantizers; the given one is not changed.

    `amax` maps quantizer names (`<module>.input_quantizer`, `.weight_quantizer`, `.{q,k,v}_bmm_quantizer`) to the
    calibrated amax: one per tensor, or an array with one per output channel (see `tasks.graph.channels`).

    Raises:
        BadAmax: the recipe enables a quantizer that has no positive, finite amax.
        ExportError: the recipe quantizes one operand of a product and not the other.
    """
    return _Rewriter(skeleton, recipe, amax).run()


class _Rewriter:
    def __init__(self, skeleton: Skeleton, recipe: Recipe, amax: Mapping[str, Amax]) -> None:
        self.source = skeleton
        self.recipe = recipe
        self.amax = amax
        self.kinds = {module.name: module.kind for module in skeleton.inventory.modules}
        self.weights = dict(skeleton.weights)
        self.constants = [_zero_point()]
        self.nodes: list[onnx.NodeProto] = []
        self.pairs: dict[tuple[str, bytes], str] = {}
        graph = skeleton.model.graph
        self.softmax_outputs = {node.output[0] for node in graph.node if node.op_type == "Softmax"}

    def run(self) -> Skeleton:
        for original in self.source.model.graph.node:
            node = deepcopy(original)
            if node.op_type == "MatMul":
                self._matmul(node)
            elif node.op_type == "Gather":
                self._gather(node)
            self.nodes.append(node)
        model = deepcopy(self.source.model)
        del model.graph.node[:]
        model.graph.node.extend(self.nodes)
        if len(self.constants) > 1:
            model.graph.initializer.extend(self.constants)
        return Skeleton(model, self.weights, self.source.inventory)

    def _matmul(self, node: onnx.NodeProto) -> None:
        module = module_of(node.name)
        kind = self.kinds.get(module)
        if kind == "linear":
            self._operands(node, module, ("input_quantizer", "weight_quantizer"), "nn.Linear")
        elif kind == "attention":
            first = "p" if node.input[0] in self.softmax_outputs else "q"
            names = (f"{first}_bmm_quantizer", "v_bmm_quantizer" if first == "p" else "k_bmm_quantizer")
            self._operands(node, module, names, "attention")

    def _gather(self, node: onnx.NodeProto) -> None:
        """Quantize an embedding table: DQ comes before Gather, so that the stored table is FP8."""
        module, table = module_of(node.name), node.input[0]
        name = f"{module}.weight_quantizer"
        if self.kinds.get(module) == "embedding" and table in self.weights:
            rule = self.recipe.rule_for(name, "nn.Embedding")
            if rule is not None:
                node.input[0] = self._weight(table, name, self._scale(name, rule))

    def _operands(self, node: onnx.NodeProto, module: str, quantizers: tuple[str, str], owner: Owner) -> None:
        names = [f"{module}.{quantizer}" for quantizer in quantizers]
        rules = [self.recipe.rule_for(name, owner) for name in names]
        if rules == [None, None]:
            return
        for index, (name, rule) in enumerate(zip(names, rules, strict=True)):
            if rule is None:
                raise ExportError(
                    f"recipe {self.recipe.name!r} leaves {name} off but quantizes the other operand",
                    expected="both operands of a product in FP8, or neither",
                    fix="enable or disable the pair together",
                )
            scale = self._scale(name, rule)
            if node.input[index] in self.weights:
                node.input[index] = self._weight(node.input[index], name, scale)
            else:
                node.input[index] = self._activation(node.input[index], name, scale)

    def _scale(self, quantizer: str, rule: Fp8) -> Scale:
        value = rule.constant_amax if rule.constant_amax is not None else self.amax.get(quantizer)
        if value is None or not np.isfinite(value).all() or np.min(value) < 0 or np.max(value) <= 0:
            raise BadAmax(f"amax of {quantizer} is {value}", expected="a positive finite number", fix="calibrate again")
        if np.ndim(value) != (0 if rule.axis is None else 1):
            raise BadAmax(
                f"amax of {quantizer} has {np.size(value)} values",
                expected="one for each output channel" if rule.axis == 0 else "one",
                fix="give `tasks.graph.channels.with_channels` of the same recipe",
            )
        return scale_for(value)

    def _weight(self, weight: str, quantizer: str, scale: Scale) -> str:
        scale_name = self._constant(f"{weight}.scale", scale)
        self.weights[weight] = self.weights[weight].model_copy(update={"precision": "fp8", "scale": scale_name})
        name = f"{quantizer}/DequantizeLinear"
        # Output channels are the last axis of a MatMul's right operand.
        axis = {"axis": 1} if np.ndim(scale) else {}
        inputs = [weight, scale_name, self._zero(scale)]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=name, **axis))
        return name

    def _zero(self, scale: Scale) -> str:
        """The name of the zero point for a scale; ONNX requires the same shape as the scale's."""
        if not np.ndim(scale):
            return _ZERO
        name = f"{_ZERO}.{np.size(scale)}"
        if name not in {constant.name for constant in self.constants}:
            self.constants.append(_zero_point(name, np.size(scale)))
        return name

    def _activation(self, tensor: str, quantizer: str, scale: Scale) -> str:
        key = (tensor, scale.tobytes())
        if key not in self.pairs:
            scale_name = self._constant(f"{quantizer}.scale", scale)
            q, dq = f"{quantizer}/QuantizeLinear", f"{quantizer}/DequantizeLinear"
            self.nodes.append(helper.make_node("QuantizeLinear", [tensor, scale_name, _ZERO], [q], name=q))
            self.nodes.append(helper.make_node("DequantizeLinear", [q, scale_name, _ZERO], [dq], name=dq))
            self.pairs[key] = dq
        return self.pairs[key]

    def _constant(self, name: str, value: Scale) -> str:
        self.constants.append(numpy_helper.from_array(np.array(value, np.float16), name))
        return name


def _zero_point(name: str = _ZERO, channels: int | None = None) -> onnx.TensorProto:
    """The FP8 zero point, a scalar or one per channel; its type tells QuantizeLinear what to produce."""
    dims, count = ([], 1) if channels is None else ([channels], channels)
    return helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, dims, bytes(count), raw=True)
