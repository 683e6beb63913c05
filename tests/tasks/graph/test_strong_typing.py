"""Type conflicts are those that a strongly typed build refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tasks.graph.strong_typing import type_conflicts

F16, F32, I64 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT64


def graph(nodes: list[onnx.NodeProto], inputs: dict[str, int], output: int, *constants: Any) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, dtype, ["batch", 4]) for name, dtype in inputs.items()]
    made = helper.make_tensor_value_info("y", output, None)
    model = helper.make_graph(nodes, "g", values, [made], list(constants))
    return helper.make_model(model, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
@pytest.mark.parametrize("encoder", ["image", "text"])
def test_our_graphs_have_none(encoder: str, precision: str, demo_graph: Any) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(demo_graph(encoder, precision)), strict_mode=True)
    assert type_conflicts(model) == []


@pytest.mark.parametrize("op", ["MatMul", "Add", "Mul", "Concat"])
def test_mixed_operands(op: str) -> None:
    options = {"axis": 0} if op == "Concat" else {}
    mixed = graph([helper.make_node(op, ["a", "b"], ["y"], name="n", **options)], {"a": F16, "b": F32}, F16)
    assert type_conflicts(mixed) == ["n: T is FLOAT16 and FLOAT"]
    same = graph([helper.make_node(op, ["a", "b"], ["y"], name="n", **options)], {"a": F16, "b": F16}, F16)
    assert type_conflicts(same) == []


def test_the_last_of_many_operands_counts() -> None:
    node = helper.make_node("Concat", ["a", "b", "c", "d"], ["y"], name="n", axis=0)
    assert type_conflicts(graph([node], {"a": F16, "b": F16, "c": F16, "d": F32}, F16))


def test_types_that_may_differ() -> None:
    node = helper.make_node("Gather", ["a", "i"], ["y"], name="n")
    assert type_conflicts(graph([node], {"a": F16, "i": I64}, F16)) == []
    assert type_conflicts(graph([helper.make_node("Cast", ["a"], ["y"], name="n", to=F32)], {"a": F16}, F32)) == []


def test_optional_inputs_may_be_left_out() -> None:
    low = numpy_helper.from_array(np.array(0, np.float16), "low")
    assert (
        type_conflicts(graph([helper.make_node("Clip", ["a", "", "low"], ["y"], name="n")], {"a": F16}, F16, low)) == []
    )
    high = numpy_helper.from_array(np.array(0, np.float32), "low")
    assert type_conflicts(graph([helper.make_node("Clip", ["a", "", "low"], ["y"], name="n")], {"a": F16}, F16, high))


def test_an_unknown_type_is_a_conflict() -> None:
    nodes = [
        helper.make_node("Relu", ["a"], ["m"], name="first"),
        helper.make_node("Relu", ["m"], ["y"], name="second"),
    ]
    assert "first: the type of m is unknown" in type_conflicts(graph(nodes, {"a": F16}, F16))


@pytest.mark.parametrize("scale_type", [np.float16, np.float32])
def test_scales_have_the_type_of_what_they_scale(scale_type: type) -> None:
    """ONNX 20 lets QuantizeLinear's scale differ from its input; a strongly typed TensorRT build does not."""
    scale = numpy_helper.from_array(np.array(0.5, scale_type), "s")
    zero = helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True)
    nodes = [
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="d"),
    ]
    model = onnx.shape_inference.infer_shapes(graph(nodes, {"a": F16}, F16, scale, zero))
    conflicts = type_conflicts(model)
    assert bool(conflicts) == (scale_type is np.float32)
    assert all(conflict.startswith(("q:", "d:")) for conflict in conflicts)
