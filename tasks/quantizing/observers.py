"""How large the activations are that reach each quantizer, observed with next to no cost.

ModelOpt's quantizers look at all weights again with each batch, and ask of each tensor whether its largest value is
finite, for which a GPU has to finish first: a text encoder was calibrated at 14 % of the speed of its forward loop.

Imported inside functions only: it subclasses PyTorch's module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from modelopt.torch.quantization.nn import TensorQuantizer
from torch import nn


class Observer(nn.Module):
    """Stands in a quantizer's place, and keeps the largest magnitude that has reached it: `amax`, a scalar on the
    device, NaN once anything was NaN; None before anything has."""

    def __init__(self, quantizer: TensorQuantizer) -> None:
        super().__init__()
        self.amax: torch.Tensor | None = None
        self.__dict__["_quantizer"] = quantizer  # not a child: it is asked for its settings only

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_quantizer"], name)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The values as they are."""
        if values.numel():
            least, most = torch.aminmax(values.detach())
            largest = torch.maximum(most, -least)
            self.amax = largest if self.amax is None else torch.maximum(self.amax, largest)
        return values


class _Passed(Observer):
    """Stands in the place of a quantizer that nothing is to be observed of."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values


@contextmanager
def observed(model: nn.Module, activations: dict[str, Any]) -> Iterator[dict[str, Observer]]:
    """Let observers stand in the places of all quantizers; those of the `activations`, by name.

    `activations` are quantizers of `model` by name, with one amax each. Afterwards their calibrators know what was
    observed. A weight's quantizer that has seen its weight needs no second look.
    """
    found: dict[str, Observer] = {}
    replaced: list[tuple[nn.Module, str, TensorQuantizer]] = []
    for prefix, module in list(model.named_modules()):
        for child, quantizer in list(module.named_children()):
            if not isinstance(quantizer, TensorQuantizer):
                continue
            name = f"{prefix}.{child}" if prefix else child
            if name in activations:
                found[name] = Observer(quantizer)
            elif quantizer.is_enabled and quantizer._calibrator.compute_amax() is None:
                continue
            module._modules[child] = found.get(name) or _Passed(quantizer)
            replaced.append((module, child, quantizer))
    try:
        yield found
    finally:
        for module, child, quantizer in replaced:
            module._modules[child] = quantizer
        for name, observer in found.items():
            activations[name]._calibrator._calib_amax = observer.amax
