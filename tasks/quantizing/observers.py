"""Observing the largest input of each quantizer at almost no cost.

ModelOpt's quantizers process all weights again for each batch, and check for each tensor whether its largest value is
finite, for which they wait for the GPU: a text encoder was calibrated at 14 % of the speed of its forward pass.

Import this module inside functions only: it subclasses PyTorch's module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from modelopt.torch.quantization.nn import TensorQuantizer
from torch import nn


class Observer(nn.Module):
    """Replaces a quantizer and keeps the largest magnitude of its inputs: `amax`, a scalar tensor on the device; NaN if
    any input was NaN; None before the first input."""

    def __init__(self, quantizer: TensorQuantizer) -> None:
        super().__init__()
        self.amax: torch.Tensor | None = None
        self.__dict__["_quantizer"] = quantizer  # not a submodule: it is used only for its settings

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_quantizer"], name)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values unchanged."""
        if values.numel():
            least, most = torch.aminmax(values.detach())
            largest = torch.maximum(most, -least)
            self.amax = largest if self.amax is None else torch.maximum(self.amax, largest)
        return values


class _Passed(Observer):
    """Replaces a quantizer whose inputs need not be observed."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values


@contextmanager
def observed(model: nn.Module, activations: dict[str, Any]) -> Iterator[dict[str, Observer]]:
    """Replace all quantizers by observers inside the block; yields the observers of the `activations`, by name.

    `activations` are quantizers of `model` by name, with one amax each; after the block their calibrators have the
    observed values. Quantizers of weights are only bypassed, as they have seen their weight already.
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
