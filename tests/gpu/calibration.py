"""Calibration of an exported FP16 graph in PyTorch: the largest magnitude in front of every product.

The maxima stay on the device, in one tensor, until the last batch is done. What that costs beside the bare forward loop
is what `throughput` measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.torch_fp8.torch_graph import Loaded

if TYPE_CHECKING:
    import torch

_FLOOR = 1e-3
"""The least amax: with random weights nothing is dead, but a scale must not be subnormal."""


@dataclass(frozen=True)
class Throughput:
    """Samples per second of one encoder's FP16 graph while its maxima are collected, and of the bare forward loop."""

    model: str
    encoder: str
    device: str
    batch: int
    calibrating: float
    bare: float

    @property
    def share(self) -> float:
        """Of the bare loop's."""
        return self.calibrating / self.bare


class Observed:
    """A loaded encoder that keeps the largest magnitude of every tensor in front of a product."""

    def __init__(self, loaded: Loaded) -> None:
        import torch

        self._loaded = loaded
        self._names = sorted(_operands(loaded).values())
        device = next(loaded.module.buffers()).device
        self._amax = torch.zeros(len(self._names), device=device)
        self._module = _with_observers(loaded, {name: place for place, name in enumerate(self._names)}, self._amax)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self._module(*inputs)
        return embeddings

    def amax(self) -> dict[str, float]:
        """By the names of ModelOpt's quantizers, weights included; the one time that the host waits."""
        seen = dict(zip(self._names, self._amax.tolist(), strict=True))
        found = {quantizer: seen[tensor] for quantizer, tensor in _operands(self._loaded).items()}
        for linear in self._loaded.plan.linears():
            found[f"{linear.module}.weight_quantizer"] = float(np.abs(self._loaded.graph.array(linear.weight)).max())
        return {name: max(value, _FLOOR) for name, value in found.items()}


def throughput(
    model: str, encoder: str, loaded: Loaded, sets: Sequence[Sequence[torch.Tensor]], rounds: int
) -> Throughput:
    """Both loops over the same batches on the device, in turns, the better of `rounds` rounds each."""
    observed = Observed(loaded)
    device = sets[0][0].device
    loops: dict[str, Callable[..., Any]] = {"calibrating": observed, "bare": loaded.module}
    best: dict[str, float] = {}
    for _ in range(rounds + 1):  # the first one warms up
        for name, call in loops.items():
            best[name] = min(best.get(name, float("inf")), _seconds(call, sets, device))
    samples = sum(len(inputs[0]) for inputs in sets)
    rates = {name: samples / seconds for name, seconds in best.items()}
    return Throughput(model, encoder, _name(device), len(sets[0][0]), **rates)


def _seconds(call: Callable[..., Any], sets: Iterable[Sequence[torch.Tensor]], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    for inputs in sets:
        call(*inputs)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def _name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name() if device.type == "cuda" else device.type


def _operands(loaded: Loaded) -> dict[str, str]:
    """Quantizers of activations, and the tensors that they quantize."""
    found = {f"{linear.module}.input_quantizer": linear.x for linear in loaded.plan.linears()}
    for attention in loaded.plan.attentions():
        operands = (("q", attention.q), ("k", attention.k_transposed), ("v", attention.v))
        found |= {f"{attention.module}.{name}_bmm_quantizer": tensor for name, tensor in operands}
    return found


def _with_observers(loaded: Loaded, places: dict[str, int], amax: torch.Tensor) -> torch.nn.Module:
    """The same graph with an observer behind every tensor that has a place."""
    import torch

    module: Any = loaded.module
    graph = torch.fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    (first, *_) = graph.nodes
    with graph.inserting_before(first):
        kept = graph.get_attr("amax")
    root = torch.nn.Module()
    root.register_buffer("amax", amax)
    for name, buffer in module.named_buffers():
        root.register_buffer(name, buffer)
    for node in list(graph.nodes):
        place = places.get(loaded.tensors.get(node.name, ""))
        if place is not None:
            with graph.inserting_after(node):
                graph.call_function(_observe, (kept, place, node))
    return torch.fx.GraphModule(root, graph).eval()


def _observe(amax: torch.Tensor, place: int, x: torch.Tensor) -> None:
    import torch

    seen = amax[place]
    torch.maximum(seen, x.abs().amax().float(), out=seen)
