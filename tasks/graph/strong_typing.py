"""Strong typing: checks whether a builder that inserts no casts would accept the graph."""

from __future__ import annotations

import onnx
from onnx import TensorProto, defs


def type_conflicts(model: onnx.ModelProto) -> list[str]:
    """Nodes whose operands violate their operator's type constraints, such as `node: T is FLOAT and FLOAT16`.

    ONNX's operator schemas use one type variable for operands that must agree; `model` must have inferred shapes,
    so that every tensor's type is known. Scales must also have the type of the values that they scale, which TensorRT
    requires and ONNX does not.
    """
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    conflicts = []
    for node in graph.node:
        bound: dict[str, int] = {}
        schema = defs.get_schema(node.op_type, max_inclusive_version=model.opset_import[0].version, domain="")
        for variable, name in _operands(node, schema):
            if name not in types:
                conflicts.append(f"{node.name}: the type of {name} is unknown")
            elif bound.setdefault(variable, types[name]) != types[name]:
                pair = " and ".join(TensorProto.DataType.Name(t) for t in (bound[variable], types[name]))
                conflicts.append(f"{node.name}: {variable} is {pair}")
        if node.op_type == "QuantizeLinear" and types.get(node.input[0]) != types.get(node.input[1]):
            conflicts.append(f"{node.name}: the scale's type is not its input's")
        if node.op_type == "DequantizeLinear" and types.get(node.output[0]) != types.get(node.input[1]):
            conflicts.append(f"{node.name}: the scale's type is not its output's")
    return conflicts


def _operands(node: onnx.NodeProto, schema: defs.OpSchema) -> list[tuple[str, str]]:
    """(type variable, tensor name) of inputs and outputs; a variadic parameter covers the rest."""
    variables = {constraint.type_param_str for constraint in schema.type_constraints}
    result = []
    for names, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for index, name in enumerate(names):
            formal = formals[min(index, len(formals) - 1)]
            if name and formal.type_str in variables:
                result.append((formal.type_str, name))
    return result
