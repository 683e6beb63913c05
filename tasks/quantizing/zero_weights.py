"""Weights that are all zero, as after pruning: quantizers that see only zeros have no amax, and get scale 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

AMAX_OF_ZEROS = 448.0
"""E4M3's largest value, at which the scale is 1."""
_PROJECTIONS = {
    "q_bmm_quantizer": ("q_proj", "query"),
    "k_bmm_quantizer": ("k_proj", "key"),
    "v_bmm_quantizer": ("v_proj", "value"),
}
_INPUT_COMES_FROM = (
    (".out_proj", ".v_proj"),
    (".fc2", ".fc1"),
    (".attention.output.dense", ".attention.self.value"),
    (".output.dense", ".intermediate.dense"),
)
"""Layers whose outputs are zero if the outputs of another layer are: attention mixes zeros, activations keep them."""


def settle_zeros(model: nn.Module, quantizers: Mapping[str, Any]) -> list[str]:
    """Set the amax for scale 1 in the enabled `quantizers` whose amax is 0 because of zero weights; return their names.

    An amax of 0 that zero weights do not explain is not changed: calibration refuses it.
    """
    import torch

    settled = [name for name in zero_quantizers(model, quantizers) if _is_zero(quantizers[name].amax)]
    for name in settled:
        quantizers[name].amax = torch.full_like(quantizers[name].amax, AMAX_OF_ZEROS)
    return settled


def _is_zero(amax: torch.Tensor | None) -> bool:
    """Whether there is an amax and it is 0; after a norm or bias, inputs are not zero in spite of zero weights."""
    return amax is not None and not bool(amax.any())


def zero_quantizers(model: nn.Module, quantizers: Mapping[str, Any]) -> list[str]:
    """The `quantizers` that may see only zeros because of zero weights: the weights' own, and those after them."""
    from torch import nn

    weights, silent = set(), set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.any():
            weights.add(name)
            bias = getattr(module, "bias", None)
            if bias is None or not bias.any():
                silent.add(name)
    return [name for name in quantizers if _sees_zeros(name, weights, silent)]


def _sees_zeros(quantizer: str, weights: set[str], silent: set[str]) -> bool:
    owner, _, kind = quantizer.rpartition(".")
    if kind == "weight_quantizer":
        return owner in weights
    if kind in _PROJECTIONS:
        return any(f"{owner}.{projection}" in silent for projection in _PROJECTIONS[kind])
    return any(
        owner.endswith(reader) and f"{owner.removesuffix(reader)}{source}" in silent
        for reader, source in _INPUT_COMES_FROM
    )
