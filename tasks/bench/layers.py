"""The time of each layer in FP8 and FP16, aligned by module name.

Layers may come from PyTorch's profiler or from any other tool that names our modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.bench.evidence import GROUPED, FallBack, Layer

if TYPE_CHECKING:
    from tasks.bench.report import EncoderEvidence


@dataclass(frozen=True)
class LayerRow:
    """One product or attention of an encoder at one batch size; `ratio` is FP16's time over FP8's.

    A time is None if the other precision computes this module together with another one. `fell_back` says why a
    quantized product was not computed in FP8; None if it was, or if the graph does not quantize it.
    """

    encoder: str
    target: str
    batch: int
    module: str
    fp16_us: float | None
    fp8_us: float | None
    ratio: float | None
    fell_back: str | None


def layer_rows(evidence: Sequence[EncoderEvidence]) -> list[LayerRow]:
    """The rows of every encoder, target and batch size whose layers are known in both precisions."""
    by_key = {(item.encoder, item.target, item.batch, item.precision): item.evidence for item in evidence}
    rows: list[LayerRow] = []
    for (encoder, target, batch, precision), fp8 in by_key.items():
        fp16 = by_key.get((encoder, target, batch, "fp16"))
        if precision == "fp8" and fp16 is not None and fp16.layers and fp8.layers:
            rows += join_layers((encoder, target, batch), fp16.layers, fp8.layers, fp8.fallen_back)
    return rows


def join_layers(
    about: tuple[str, str, int], fp16: Sequence[Layer], fp8: Sequence[Layer], fallen_back: Sequence[FallBack]
) -> list[LayerRow]:
    """Align the layers of two runs; `about` is (encoder, target, batch). FP8's layers come first, in their order, then
    those that only FP16 has."""
    slow = {layer.module: layer.microseconds for layer in fp16}
    fast = {layer.module: layer.microseconds for layer in fp8}
    reasons = {fall.module: fall.reason for fall in fallen_back}
    return [
        LayerRow(
            *about,
            module,
            slow.get(module),
            fast.get(module),
            slow[module] / fast[module] if slow.get(module) and fast.get(module) else None,
            reasons.get(module.removesuffix(GROUPED)),
        )
        for module in dict.fromkeys([*fast, *slow])
    ]
