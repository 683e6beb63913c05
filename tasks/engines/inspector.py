"""Did FP8 run? The answer is read from the report of TensorRT's engine inspector on every layer of a built engine.

The report is that of `IEngineInspector.get_engine_information(JSON)` or `trtexec --exportLayerInfo`, for an engine that
was built with detailed profiling verbosity. Its terms differ between versions; `tests/tasks/engines/inspector/` holds
public reports, and says for which forms none was found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from artifacts.errors import NotDetailed
from artifacts.strict_json import strict_json
from tasks.engines.plan import Made, Operation, is_product, made_by

Kind = Literal["gemm", "attention", "other"]
LayerPrecision = Literal["fp8", "fp16", "bf16", "fp32", "int8", "mixed", "unknown"]

_FUSED = re.compile(r"_mha|fmha|flash", re.IGNORECASE)
_GEMM = re.compile(r"gemm|matmul|matrix_?multiply|nvjet", re.IGNORECASE)
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_WORDS: tuple[tuple[re.Pattern[str], LayerPrecision], ...] = (
    (re.compile(r"fp8|float8|e4m3|e5m2", re.IGNORECASE), "fp8"),
    (re.compile(r"bfloat16|bf16", re.IGNORECASE), "bf16"),
    (re.compile(r"half|fp16|float16", re.IGNORECASE), "fp16"),
    (re.compile(r"int8", re.IGNORECASE), "int8"),
    (re.compile(r"float|fp32", re.IGNORECASE), "fp32"),
)
"""The names of tensors' types, the more specific ones first, as most contain `float`."""
_KERNELS: tuple[tuple[re.Pattern[str], LayerPrecision], ...] = (
    # The first type in a kernel's name is that of both operands: github.com/NVIDIA/TransformerEngine/issues/1391.
    (re.compile(r"gemm_(e4m3|e5m2)|nvjet_sm\d+_qq"), "fp8"),
    (re.compile(r"gemm_bf16"), "bf16"),
    (re.compile(r"gemm_f16|fp16_s\d+gemm|h\d+gemm"), "fp16"),
    (re.compile(r"gemm_[is]8"), "int8"),
    (re.compile(r"gemm_f32|gemm_tf32|sgemm"), "fp32"),
)


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    `nodes` are the nodes of our graph that it computes, and `modules` the model's modules, from their names:
    `<module>/MatMul`.
    """

    name: str
    kind: Kind
    precision: LayerPrecision
    tactic: str
    modules: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class FallBack:
    """A module that the graph quantizes but the engine computes in another precision, and the kernel."""

    module: str
    precision: LayerPrecision
    tactic: str


def read_layers(report: str) -> tuple[Layer, ...]:
    """The layers of an engine, in its order.

    Raises:
        NotDetailed: it is not such a report, or only names the layers.
    """
    try:
        document = strict_json(report)
    except ValueError as error:
        raise _not_detailed(f"the inspector's report is not JSON: {error}") from error
    layers = document.get("Layers") if isinstance(document, dict) else document
    if not isinstance(layers, list) or not layers:
        raise _not_detailed("the inspector's report has no layers")
    if any(isinstance(layer, str) for layer in layers):
        raise _not_detailed("the inspector's report only names the layers")
    if not all(isinstance(layer, dict) and isinstance(layer.get("Name"), str) for layer in layers):
        raise _not_detailed("the inspector's report has layers without a name")
    return tuple(_layer(layer) for layer in layers)


def fp8_share(layers: Iterable[Layer], kind: Kind, milliseconds: Mapping[str, float] | None = None) -> float | None:
    """The share of layers of a kind that compute in FP8: of their number, or with `milliseconds` of their time.

    None if there is no such layer, or no time was measured.
    """
    mine = [layer for layer in layers if layer.kind == kind]
    weights = [1.0 if milliseconds is None else milliseconds.get(layer.name, 0.0) for layer in mine]
    total = sum(weights)
    fp8 = sum(weight for layer, weight in zip(mine, weights, strict=True) if layer.precision == "fp8")
    return fp8 / total if total else None


def fused_attention(layers: Iterable[Layer]) -> dict[str, LayerPrecision]:
    """The modules whose attention is one fused kernel, and that kernel's precision."""
    fused = (layer for layer in layers if layer.kind == "attention")
    return {module: layer.precision for layer in fused for module in layer.modules}


def fall_backs(layers: Sequence[Layer], quantized: Iterable[str]) -> list[FallBack]:
    """The modules that the graph quantizes but a GEMM or attention layer computes in another precision."""
    wanted = set(quantized)
    return [
        FallBack(module, layer.precision, layer.tactic)
        for layer in layers
        if layer.kind != "other" and layer.precision != "fp8"
        for module in layer.modules
        if module in wanted
    ]


def made_of(layers: Iterable[Layer]) -> Made:
    """What the builder made, as far as the layers tell; how many kernels they launch is not in the report."""
    found: list[Operation] = []
    for layer in layers:
        nodes, attention = tuple(filter(is_product, layer.nodes)), layer.kind == "attention"
        # Two products of one module are an attention: a layer that has both, and no known name, tells nothing of it.
        if attention or (layer.kind == "gemm" and len(set(map(_module, nodes))) == len(nodes)):
            found.append(Operation(nodes, layer.precision, attention))
    return made_by(found, launches=None)


def _module(node: str) -> str:
    return node.rpartition("/")[0]


def _layer(document: Mapping[str, Any]) -> Layer:
    tactic = str(document.get("TacticName", ""))
    kind = _kind(document, tactic)
    nodes = _NODE.findall(str(document.get("Metadata", "")))
    return Layer(
        name=document["Name"],
        kind=kind,
        precision=_precision(document, kind, tactic),
        tactic=tactic,
        modules=tuple(dict.fromkeys(map(_module, nodes))),
        nodes=tuple(nodes),
    )


def _kind(document: Mapping[str, Any], tactic: str) -> Kind:
    about = f"{document.get('LayerType', '')} {tactic}"
    if _FUSED.search(f"{about} {document['Name']}"):
        return "attention"
    # Convolutions are called implicit GEMMs; pointwise kernels next to a matrix product do not have GEMM in their name.
    if "conv" in about.lower() or not _GEMM.search(about):
        return "other"
    return "gemm"


def _precision(document: Mapping[str, Any], kind: Kind, tactic: str) -> LayerPrecision:
    named = next((precision for pattern, precision in _KERNELS if pattern.search(tactic)), None)
    if kind == "gemm" and named is not None:
        return named
    inputs, constants = (_types(document.get(field)) for field in ("Inputs", "Constants"))
    if not inputs:
        return "unknown"
    operands = inputs[:3] if kind == "attention" else inputs[:1] + constants[:1]
    return operands[0] if len(set(operands)) == 1 else "mixed"


def _types(tensors: Any) -> list[LayerPrecision]:
    """The types of a layer's tensors, in order; the caller ignores a mask or scale after the operands."""
    listed = tensors if isinstance(tensors, list) else []
    words = (str(t.get("Datatype") or t.get("Format/Datatype") or "") for t in listed if isinstance(t, dict))
    return [next((p for pattern, p in _WORDS if pattern.search(word)), "unknown") for word in words]


def _not_detailed(what: str) -> NotDetailed:
    return NotDetailed(
        what,
        expected="the JSON of a TensorRT engine's inspector",
        fix="build the engine with detailed profiling verbosity, as clipsmith does",
    )
