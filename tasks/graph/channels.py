"""The amax of each output channel, computed from the weights, for weights that a recipe quantizes by channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tasks.clip.weights import WeightReader
from tasks.graph.skeleton import Skeleton, Weight, module_of
from tasks.quantizing.amax import require_largest
from tasks.quantizing.recipe import Recipe

Amax = float | NDArray[np.float32]
"""The amax of a tensor, or of each output channel of a weight."""


def with_channels(
    amax: Mapping[str, float], skeleton: Skeleton, recipe: Recipe, reader: WeightReader
) -> Mapping[str, Amax]:
    """The calibrated amax by quantizer; for those with `axis: 0` in the recipe, max |row| (float32, (channels,)).

    ModelOpt computes the same from these weights; the table `amax` has the largest of the channels. If a weight is all
    zero, all channels get the value in `amax`.

    Raises:
        BadAmax: the largest is not the one in the table, so the table belongs to other weights.
    """
    found = {name: _of_channels(weight, reader) for name, weight in by_channel(skeleton, recipe)}
    for name, channels in found.items():
        if not channels.any() and name in amax:
            channels[:] = amax[name]
        require_largest(name, float(channels.max()), amax.get(name))
    return {**amax, **found}


def by_channel(skeleton: Skeleton, recipe: Recipe) -> Iterator[tuple[str, Weight]]:
    """The quantizers with one scale per channel in the recipe, and their weights."""
    linears = {module.name for module in skeleton.inventory.modules if module.kind == "linear"}
    for node in skeleton.model.graph.node:
        module = module_of(node.name)
        if node.op_type == "MatMul" and module in linears and node.input[1] in skeleton.weights:
            name = f"{module}.weight_quantizer"
            rule = recipe.rule_for(name, "nn.Linear")
            if rule is not None and rule.axis is not None:
                yield name, skeleton.weights[node.input[1]]


def _of_channels(weight: Weight, reader: WeightReader) -> NDArray[np.float32]:
    """max |row| of a weight, which is (in, out) in the graph; in FP32, as in ModelOpt, without copying the weight."""
    values, inputs = reader.read(weight.key), 1 if weight.transposed else 0
    largest: NDArray[np.float32] = np.maximum(values.max(axis=inputs), -values.min(axis=inputs)).astype(np.float32)
    return largest
