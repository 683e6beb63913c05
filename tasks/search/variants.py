"""Variants of an encoder in PyTorch: some nodes get FP8 operands, and the graph is run from the first changed node on.

Values before that node do not change, so they are taken from the reference: this is exact, and costs only the rest of
the graph. Arithmetic is FP32 with the FP16 graph's weights; FP8 operands are quantized as by the exported graph's
QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.search.units import Scales, Unit
from tasks.torch_fp8.onnx_graph import Scale
from tasks.torch_fp8.torch_graph import Loaded

if TYPE_CHECKING:
    import torch

_Values = dict[Any, Any]
"""The values of graph nodes."""


class Variants:
    """One encoder, loaded without fusion (`load(path, "cpu", fused=False)`); its buffers are converted to FP32."""

    def __init__(self, loaded: Loaded) -> None:
        module: Any = loaded.module.float()
        buffers = dict(module.named_buffers())
        nodes = list(module.graph.nodes)
        self._constants = {node: buffers[node.target] for node in nodes if node.op == "get_attr"}
        self._nodes = [node for node in nodes if node.op != "get_attr"]
        self._places = {loaded.tensors.get(node.name, node.name): place for place, node in enumerate(self._nodes)}
        self._last = _last_uses(self._nodes)

    def one_by_one(self, inputs: Sequence[torch.Tensor], units: Sequence[Unit]) -> Iterator[tuple[Unit, torch.Tensor]]:
        """Each unit with the embeddings (batch, dim) when only that unit is FP8, in the order of the graph."""
        import torch

        starting: dict[int, list[Unit]] = defaultdict(list)
        for unit in units:
            starting[min(self._places[tensor] for tensor in unit.products)].append(unit)
        given, values = iter(inputs), _Values()
        with torch.inference_mode():
            for place in range(max(starting, default=-1) + 1):
                for unit in starting[place]:
                    yield unit, self._finish(dict(values), place, unit.products, iter(()))
                self._step(place, values, None, given)

    def together(self, inputs: Sequence[torch.Tensor], units: Sequence[Unit]) -> torch.Tensor:
        """The embeddings (batch, dim) with all of `units` in FP8."""
        import torch

        products = {tensor: scales for unit in units for tensor, scales in unit.products.items()}
        with torch.inference_mode():
            return self._finish({}, 0, products, iter(inputs))

    def _finish(
        self, values: _Values, start: int, products: Mapping[str, Scales], given: Iterator[torch.Tensor]
    ) -> torch.Tensor:
        changed = {self._places[tensor]: scales for tensor, scales in products.items()}
        for place in range(start, len(self._nodes) - 1):
            self._step(place, values, changed.get(place), given)
        result: torch.Tensor = self._value(self._nodes[-1].args[0], values)
        return result

    def _step(self, place: int, values: _Values, scales: Scales | None, given: Iterator[torch.Tensor]) -> None:
        """Compute one node, and free values that no later node reads."""
        node = self._nodes[place]
        if node.op == "placeholder":
            values[node] = next(given)
        else:
            arguments = self._value(node.args, values)
            if scales is not None:
                pairs = zip(arguments, scales, strict=False)
                rest = arguments[len(scales) :]
                arguments = (*(x if scale is None else fake_quantize(x, scale) for x, scale in pairs), *rest)
            if node.op == "call_method":
                own, *others = arguments
                values[node] = getattr(own, node.target)(*others, **self._value(node.kwargs, values))
            else:
                values[node] = node.target(*arguments, **self._value(node.kwargs, values))
        for spent in self._last[place]:
            del values[spent]

    def _value(self, argument: Any, values: _Values) -> Any:
        from torch.fx.node import map_arg

        return map_arg(argument, lambda node: self._constants[node] if node in self._constants else values[node])


def fake_quantize(x: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Quantize and dequantize FP32 values as in the graph: E4M3 times the scale, rounded to FP16.

    Several scales belong to the last axis.
    """
    import torch

    from tasks.torch_fp8 import torch_ops

    by = torch.tensor(scale) if isinstance(scale, tuple) else scale
    return torch_ops.dequantize(torch_ops.quantize(x.half(), by), by).float()


def _last_uses(nodes: Sequence[Any]) -> dict[int, list[Any]]:
    """For each position in the graph, the nodes whose values are read for the last time there."""
    places = {node: place for place, node in enumerate(nodes)}
    last: dict[int, list[Any]] = defaultdict(list)
    for node in nodes:
        if node.op != "output":
            last[max((places[user] for user in node.users), default=places[node])].append(node)
    return last
