"""Tracing a model with one block and repeating the block, as all blocks of an encoder are alike.

So tracing time hardly depends on depth. The result equals the graph from tracing all blocks, node for node and byte for
byte, which the tests check; if a graph does not have the expected form, all blocks are traced instead.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import onnx

from artifacts.manifest import Encoder
from tasks.clip.hugging_face import ClipFamily
from tasks.graph.skeleton import Skeleton, Weight
from tasks.graph.tracing import inventory_of, order_constants, trace

_FIRST = re.compile(r"(?:(?<=\.layers\.)|(?<=\.layer\.))0(?=[./])")
"""The block index in names such as `vision_model.encoder.layers.0.mlp.fc1/MatMul`."""


def trace_by_block(family: ClipFamily, config: dict[str, Any], encoder: Encoder) -> Skeleton:
    """As `tasks.graph.tracing.trace`, at the cost of one block.

    Raises:
        ExportError: as `trace`.
    """
    layers = family.encoder_spec(config, encoder).layers
    shallow = family.with_layers(config, encoder, 1)
    skeleton = trace(family, shallow, encoder)
    span = _block(skeleton)
    if span is None:
        return trace(family, config, encoder)
    _repeat(skeleton, *span, layers)
    skeleton.inventory = inventory_of(family, config, encoder)
    order_constants(skeleton)
    return skeleton


def _block(skeleton: Skeleton) -> tuple[int, int, str, str] | None:
    """The block's first node, last node + 1, input tensor and output tensor; None if the form is not the expected one.

    A block may also read tensors that all blocks share, such as a mask; its input is what its first node reads.
    """
    nodes = list(skeleton.model.graph.node)
    places = [place for place, node in enumerate(nodes) if _FIRST.search(node.name)]
    if not places or places != list(range(places[0], places[-1] + 1)):
        return None
    start, end = places[0], places[-1] + 1
    made = {name for node in nodes[start:end] for name in node.output}
    known = made | skeleton.weights.keys() | {constant.name for constant in skeleton.model.graph.initializer}
    taken = {name for name in nodes[start].input if name and name not in known}
    given = {name for node in nodes[end:] for name in node.input if name in made}
    if len(taken) != 1 or len(given) != 1:
        return None
    return start, end, taken.pop(), given.pop()


def _repeat(skeleton: Skeleton, start: int, end: int, taken: str, given: str, layers: int) -> None:
    graph = skeleton.model.graph
    nodes = list(graph.node)
    repeated: list[onnx.NodeProto] = []
    for layer in range(layers):
        source = taken if layer == 0 else _FIRST.sub(str(layer - 1), given)
        for node in nodes[start:end]:
            copy = deepcopy(node)
            copy.name = _FIRST.sub(str(layer), node.name)
            copy.input[:] = [source if name == taken else _FIRST.sub(str(layer), name) for name in node.input]
            copy.output[:] = [_FIRST.sub(str(layer), name) for name in node.output]
            repeated.append(copy)
    last = _FIRST.sub(str(layers - 1), given)
    before, after = deepcopy(nodes[:start]), deepcopy(nodes[end:])
    for node in after:
        node.input[:] = [last if name == given else name for name in node.input]
    del graph.node[:]
    graph.node.extend([*before, *repeated, *after])
    skeleton.weights = _repeat_weights(skeleton.weights, layers)


def _repeat_weights(weights: dict[str, Weight], layers: int) -> dict[str, Weight]:
    """The weights of all blocks, made from those of the first block."""
    first = {name: weight for name, weight in weights.items() if _FIRST.search(name)}
    result: dict[str, Weight] = {}
    for name, weight in weights.items():
        if name not in first:
            result[name] = weight
        elif not any(_FIRST.search(known) for known in result):
            for layer in range(layers):
                result |= {
                    _FIRST.sub(str(layer), n): w.model_copy(update={"key": _FIRST.sub(str(layer), w.key)})
                    for n, w in first.items()
                }
    return result
