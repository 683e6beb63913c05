"""Did FP8 run in an engine? The answer is read from the inspector's layers, weighted by their times."""

from __future__ import annotations

from collections.abc import Mapping

from artifacts.errors import NotDetailed
from tasks.bench.evidence import Evidence, FallBack, Layer
from tasks.engines import inspector
from tasks.torch_fp8.onnx_graph import OnnxGraph, module_of

_SHOWN = 12


def engine_evidence(report: str, milliseconds: Mapping[str, float], graph: OnnxGraph) -> Evidence:
    """The evidence in the layers of one run, from the inspector's JSON and each layer's time by its name.

    If the times of products are unknown, shares are of their number. If the report says too little, shares are None.
    """
    try:
        layers = inspector.read_layers(report)
    except NotDetailed as error:
        return no_evidence(error.what)
    timed = inspector.fp8_share(layers, "gemm", milliseconds) is not None
    weights = milliseconds if timed else None
    spent = dict.fromkeys(("gemm", "attention", "other"), 0.0)
    for layer in layers:
        spent[layer.kind] += milliseconds.get(layer.name, 0.0) * 1e3
    kernels = [(layer.tactic or layer.name, 1, milliseconds.get(layer.name, 0.0) * 1e3) for layer in layers]
    kernels.sort(key=lambda kernel: -kernel[2])
    return Evidence(
        gemm=spent["gemm"],
        attention=spent["attention"],
        other=spent["other"],
        fp8_gemm_share=_known_share(layers, weights),
        fp8_attention_share=inspector.fp8_share(layers, "attention", weights),
        fallen_back=tuple(_fallen_back(layers, graph)),
        layers=tuple(
            Layer(" + ".join(layer.modules), milliseconds[layer.name] * 1e3)
            for layer in layers
            if timed and layer.kind != "other" and layer.modules and layer.name in milliseconds
        ),
        kernels=tuple(kernels[:_SHOWN]) if timed else (),
        source="engine inspector",
        weighed_by="time" if timed else "number",
        unfused_attention=tuple(sorted(_attentions(graph) - inspector.fused_attention(layers).keys())),
        doubt=None if any(layer.kind == "gemm" for layer in layers) else "the inspector names no matrix product",
    )


def no_evidence(doubt: str) -> Evidence:
    """The evidence if the inspector tells nothing; `doubt` says why."""
    return Evidence(0, 0, 0, None, None, (), (), (), source="engine inspector", doubt=doubt)


def _known_share(layers: tuple[inspector.Layer, ...], weights: Mapping[str, float] | None) -> float | None:
    """The share of products in FP8; None if there are none, or the precision of all of them is unknown."""
    products = [layer for layer in layers if layer.kind == "gemm"]
    if all(layer.precision == "unknown" for layer in products):
        return None
    return inspector.fp8_share(layers, "gemm", weights)


def _fallen_back(layers: tuple[inspector.Layer, ...], graph: OnnxGraph) -> list[FallBack]:
    """Quantized products that the engine computes in another precision, one per module."""
    products = (node for node in graph.nodes if node.op_type == "MatMul")
    quantized = {module_of(node) for node in products if None not in map(graph.dequantized, node.input)}
    found: dict[str, FallBack] = {}
    for fall in inspector.fall_backs(layers, quantized):
        by = f" by {fall.tactic}" if fall.tactic else ""
        found.setdefault(fall.module, FallBack(fall.module, f"the engine computes it in {fall.precision}{by}"))
    return list(found.values())


def _attentions(graph: OnnxGraph) -> set[str]:
    """Modules with a product of two activations."""
    found = set()
    for node in graph.nodes:
        if node.op_type == "MatMul" and not any(_is_weight(graph, name) for name in node.input):
            found.add(module_of(node))
    return found


def _is_weight(graph: OnnxGraph, name: str) -> bool:
    scaled = graph.dequantized(name)
    return (name if scaled is None else scaled.tensor) in graph.constants
