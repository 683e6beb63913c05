"""The sensitivity of each unit: the encoder with only this unit in FP8, compared with the encoder without FP8."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.evaluation.metrics import cosine
from tasks.search.journal import Journal
from tasks.search.units import Unit
from tasks.search.variants import Variants

if TYPE_CHECKING:
    import torch

_KIND = "sensitivity"


@dataclass(frozen=True)
class Sensitivity:
    """`loss` is the mean of 1 - cosine over the samples, `snr_db` the signal-to-noise ratio of the embeddings.

    The cosine of an all-zero embedding counts as 0.
    """

    unit: Unit
    loss: float
    snr_db: float

    @property
    def loss_per_flop(self) -> float:
        """The gain of leaving the unit in FP16 per operation that is then not in FP8; infinite if there are none."""
        return self.loss / self.unit.flops if self.unit.flops else math.inf


def measure(
    variants: Variants,
    units: Sequence[Unit],
    batches: Sequence[Sequence[torch.Tensor]],
    journal: Journal,
    advance: Callable[[int], None],
) -> list[Sensitivity]:
    """Measure every unit on every batch of the encoder's inputs; results in the journal are not computed again.

    `advance` is called with the number of finished (unit, batch) pairs.
    """
    sums = {unit.module: np.zeros(3) for unit in units}
    rows = sum(len(inputs[0]) for inputs in batches)
    for number, inputs in enumerate(batches):
        for module, found in _batch(variants, units, inputs, number, journal, advance).items():
            sums[module] += found
    return [Sensitivity(unit, sums[unit.module][0] / rows, _decibels(*sums[unit.module][1:])) for unit in units]


def _batch(
    variants: Variants,
    units: Sequence[Unit],
    inputs: Sequence[torch.Tensor],
    number: int,
    journal: Journal,
    advance: Callable[[int], None],
) -> Mapping[str, Sequence[float]]:
    """By module, sums over the batch: of 1 - cosine, of the squared signal, and of the squared noise."""
    keys = {unit.module: f"{unit.encoder} {number} {unit.module}" for unit in units}
    known = {module: journal.get(_KIND, key) for module, key in keys.items()}
    advance(sum(value is not None for value in known.values()))
    missing = [unit for unit in units if known[unit.module] is None]
    if not missing:
        return known
    reference = variants.together(inputs, ()).numpy()
    signal = float((reference.astype(np.float64) ** 2).sum())
    for unit, made in variants.one_by_one(inputs, missing):
        loss = float((1 - np.nan_to_num(cosine(reference, made.numpy()))).sum())
        noise = float(((made.numpy().astype(np.float64) - reference) ** 2).sum())
        known[unit.module] = [loss, signal, noise]
        journal.put(_KIND, keys[unit.module], known[unit.module])
        advance(1)
    return known


def _decibels(signal: float, noise: float) -> float:
    return 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else math.inf
