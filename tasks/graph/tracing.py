"""Tracing an encoder on the meta device: gives a graph without weights, in seconds and a few hundred megabytes.

The exporter is `torch.onnx.export(dynamo=True)`; the weights are turned into graph inputs before its optimizer runs,
because its constant folding cannot read tensors that have no data.
"""

from __future__ import annotations

import ast
from collections import Counter
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import onnx
from onnx import numpy_helper

from artifacts.errors import ExportError
from artifacts.manifest import Encoder
from tasks.clip.base import EncoderSpec
from tasks.clip.buffers import buffer_values
from tasks.clip.hugging_face import ClipFamily
from tasks.graph.skeleton import IR_VERSION, OPSET, Inventory, Module, ModuleKind, Skeleton, Weight

if TYPE_CHECKING:
    import torch

_ROOT = "model"
_TRACE_BATCH = 2
"""The batch size for tracing: any but 0 and 1, for which `torch.export` specialises the graph."""
_MAX_BATCH = 65536
_ATTENTION_CHILDREN = ({"q_proj", "k_proj", "v_proj"}, {"query", "key", "value"})
"""Names of attributes by which modules that compute attention products are recognised, in CLIP and BERT."""


def trace(family: ClipFamily, config: dict[str, Any], encoder: Encoder) -> Skeleton:
    """Trace one encoder in FP16 from its configuration only.

    Raises:
        ExportError: the traced graph violates a requirement (batch not symbolic, foreign domain, ...).
    """
    spec = family.encoder_spec(config, encoder)
    model = _meta_model(family, config)
    program = _export(_wrapper(model, family, encoder), spec)
    proto = _detach_weights(program, model)
    skeleton = Skeleton(proto, _weights(proto), _inventory(model, family, spec))
    _name_nodes(proto)
    _gemm_to_matmul(skeleton)
    _fold_weight_transposes(skeleton)
    order_constants(skeleton)
    _check(skeleton, spec)
    return skeleton


def inventory_of(family: ClipFamily, config: dict[str, Any], encoder: Encoder) -> Inventory:
    """The modules of one encoder, from the PyTorch model only."""
    return _inventory(_meta_model(family, config), family, family.encoder_spec(config, encoder))


# --- PyTorch side ------------------------------------------------------------------------------------------


def _meta_model(family: ClipFamily, config: dict[str, Any]) -> torch.nn.Module:
    import torch

    from tasks.clip import attention

    with torch.device("meta"):
        model = family.build(config)
    attention.use_in(model)
    return model.half()


def _wrapper(model: torch.nn.Module, family: ClipFamily, encoder: Encoder) -> torch.nn.Module:
    from torch import nn

    class _Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: Any) -> Any:
            return family.encode(self.model, encoder, *inputs)

    return _Encoder().eval()


def _inventory(model: torch.nn.Module, family: ClipFamily, spec: EncoderSpec) -> Inventory:
    from torch import nn

    kinds: list[tuple[type, ModuleKind]] = [(nn.Linear, "linear"), (nn.Conv2d, "conv"), (nn.Embedding, "embedding")]
    modules: list[Module] = []
    parameters = 0
    for name, module in model.named_modules():
        if not f"{name}.".startswith(spec.prefixes):
            continue
        parameters += sum(parameter.numel() for parameter in module.parameters(recurse=False))
        modules += [Module(name=name, kind=kind) for cls, kind in kinds if isinstance(module, cls)]
        children = {child for child, _ in module.named_children()}
        if any(names <= children for names in _ATTENTION_CHILDREN):
            modules.append(Module(name=name, kind="attention"))
    return Inventory(
        family=family.name,
        encoder=spec.encoder,
        layers=spec.layers,
        hidden_size=spec.hidden_size,
        heads=spec.heads,
        embedding_dim=spec.embedding_dim,
        parameters=parameters,
        modules=tuple(modules),
    )


def _export(wrapper: torch.nn.Module, spec: EncoderSpec) -> Any:
    import torch

    dtypes = {"float16": torch.float16, "int64": torch.int64}
    inputs = tuple(torch.zeros((_TRACE_BATCH, *i.shape), dtype=dtypes[i.dtype], device="meta") for i in spec.inputs)
    batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
    with torch.no_grad():
        return torch.onnx.export(
            wrapper,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(tuple({0: batch} for _ in inputs),),
            input_names=[i.name for i in spec.inputs],
            output_names=[spec.output],
            optimize=False,
            verbose=False,
        )


def _detach_weights(program: Any, model: torch.nn.Module) -> onnx.ModelProto:
    """Turn weights into graph inputs, give buffers their values, then optimize and serialise."""
    import onnx_ir as ir

    buffers = {f"{_ROOT}.{name}" for name, _ in model.named_buffers()}
    graph = program.model.graph
    for name, value in list(graph.initializers.items()):
        if name in buffers:
            values = buffer_values(model, name.removeprefix(f"{_ROOT}."))
            value.const_value = ir.tensor(values.astype(value.dtype.numpy()), name=name)
        elif getattr(getattr(value.const_value, "raw", None), "is_meta", False):
            graph.initializers.pop(name)
            value.const_value = None
            graph.inputs.append(value)
    program.optimize()
    proto: onnx.ModelProto = ir.to_proto(program.model)
    return proto


# --- ONNX side ---------------------------------------------------------------------------------------------


def _weights(proto: onnx.ModelProto) -> dict[str, Weight]:
    """Remove the weights from the graph's inputs; their names, without the wrapper's attribute, are state-dict keys."""
    keys: dict[str, str] = {}
    weights = {}
    for value in list(proto.graph.input):
        if value.name.startswith(f"{_ROOT}."):
            shape = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            key = keys[value.name] = value.name.removeprefix(f"{_ROOT}.")
            weights[key] = Weight(key=key, shape=shape)
            proto.graph.input.remove(value)
    for node in proto.graph.node:
        node.input[:] = [keys.get(name, name) for name in node.input]
    return weights


def _scope(node: onnx.NodeProto) -> str:
    """The deepest module that a node was traced from, without the wrapper's attribute."""
    for prop in node.metadata_props:
        if prop.key == "pkg.torch.onnx.name_scopes":
            # The last entry is the exporter's node name; nodes that the exporter adds have a marker instead of a scope.
            scopes = [s.removeprefix(f"{_ROOT}.") for s in ast.literal_eval(prop.value)[:-1]]
            scopes = [s for s in scopes if s not in ("", _ROOT) and not s.startswith("_")]
            return scopes[-1] if scopes else ""
    return ""


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Name nodes `<module>/<op>` and their outputs after them; remove the exporter's metadata."""
    graph = proto.graph
    seen: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        base = f"{_scope(node) or graph.output[0].name}/{node.op_type}"
        seen[base] += 1
        node.name = base if seen[base] == 1 else f"{base}_{seen[base]}"
        for index, name in enumerate(node.output):
            if name and name not in outputs:
                renamed[name] = node.name if index == 0 else f"{node.name}:{index}"
        del node.metadata_props[:]
        node.doc_string = ""
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del graph.value_info[:]
    del graph.metadata_props[:]
    graph.doc_string = ""


def _gemm_to_matmul(skeleton: Skeleton) -> None:
    """Rewrite Gemm(x, W^T) (+ bias) as MatMul (+ Add): one form for all linear layers, bit-identical to PyTorch's."""
    graph = skeleton.model.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        weight = skeleton.weights.get(node.input[1])
        plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
        if weight is None or not plain:
            raise ExportError(f"a Gemm that is not a linear layer: {node.name}", fix="report this model")
        right = node.input[1]
        if attributes.get("transB", 0):
            right = _transpose_weight(skeleton, right)
        base = node.name.removesuffix("/Gemm")
        has_bias = len(node.input) > 2 and bool(node.input[2])
        product = f"{base}/MatMul" if has_bias else node.output[0]
        nodes.append(onnx.helper.make_node("MatMul", [node.input[0], right], [product], name=f"{base}/MatMul"))
        if has_bias:
            nodes.append(onnx.helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=f"{base}/Add"))
    _set_nodes(graph, nodes)


def _transpose_weight(skeleton: Skeleton, name: str) -> str:
    """The name of the transposed variant of a weight, made on first use; the untransposed one stays for other uses."""
    key = f"{name}.T"
    weight = skeleton.weights[name]
    skeleton.weights[key] = weight.model_copy(update={"shape": weight.shape[::-1], "transposed": not weight.transposed})
    return key


def _fold_weight_transposes(skeleton: Skeleton) -> None:
    """Remove Transpose nodes of 2-D weights, and let the writer transpose the weights instead."""
    graph = skeleton.model.graph
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        weight = skeleton.weights.get(node.input[0]) if node.input else None
        if node.op_type == "Transpose" and weight is not None and len(weight.shape) == 2:
            renamed[node.output[0]] = _transpose_weight(skeleton, node.input[0])
        else:
            nodes.append(node)
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    _set_nodes(graph, nodes)


def order_constants(skeleton: Skeleton) -> None:
    """Name constants, and sort them and the weights by first use, so that equal graphs have equal bytes.

    Constants and weights that no node uses are dropped.
    """
    graph = skeleton.model.graph
    uses = list(dict.fromkeys(name for node in graph.node for name in node.input))
    constants = {constant.name: constant for constant in graph.initializer}
    names = {name: f"constant_{index}" for index, name in enumerate(name for name in uses if name in constants)}
    ordered = [deepcopy(constants[name]) for name in names]
    for constant in ordered:
        constant.name = names[constant.name]
    del graph.initializer[:]
    graph.initializer.extend(ordered)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    skeleton.weights = {name: skeleton.weights[name] for name in uses if name in skeleton.weights}


def _set_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = deepcopy(nodes)
    del graph.node[:]
    graph.node.extend(copies)


def _check(skeleton: Skeleton, spec: EncoderSpec) -> None:
    """Check the properties of the traced graph that later steps rely on."""
    model, graph = skeleton.model, skeleton.model.graph
    model.ir_version = IR_VERSION
    model.producer_name = "clipsmith"
    model.producer_version = ""
    graph.name = f"{spec.encoder}_encoder"
    del model.metadata_props[:]
    del model.functions[:]
    foreign = sorted({node.domain for node in graph.node if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise ExportError(f"nodes in foreign domains {foreign}", where=spec.encoder, expected="the default domain")
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims[0].dim_param != "batch" or any(d.dim_param for d in dims[1:]):
            shape = [d.dim_param or d.dim_value for d in dims]
            raise ExportError(f"{value.name} has shape {shape}", expected="only the first dimension, 'batch', dynamic")
    names = [value.name for value in (*graph.input, *graph.output)]
    expected = [*(i.name for i in spec.inputs), spec.output]
    if names != expected:
        raise ExportError(f"graph inputs and outputs are {names}", expected=str(expected))
    big = [c.name for c in graph.initializer if numpy_helper.to_array(c).size > 1 << 20]
    if big:
        raise ExportError(f"large constants were baked into the graph: {big}", where=spec.encoder)
