"""Accuracy of each timed target and precision against FP32 on the evaluation set, as a table like the release's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import DataError, NumericError
from tasks.bench.embedded import embedder
from tasks.bench.evaluation import EVALUATION_FILE, Evaluation
from tasks.bench.stability import BATCH, Stability, stability
from tasks.evaluation.question_statistics import Side, task_statistics
from tasks.evaluation.scoring import all_fidelity_rows

if TYPE_CHECKING:
    import torch

    from artifacts.manifest import Row

_REFERENCE = "pytorch"
"""The target name of FP32 embeddings, as in the release's table."""


class Scores:
    """Embeds the evaluation set with one variant after another, and makes the table of all of them."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._arrays: dict[tuple[str, str, str], NDArray[np.float32]] = {}
        self.stability: list[Stability] = []

    def measure(self, encoder: str, target: str, precision: str, call: Callable[..., torch.Tensor]) -> None:
        """Embed with `call`, which takes tensors on the device: once for the table, then again to compare the bits.

        Raises:
            DataError: the file has no inputs for this encoder.
            NumericError: an embedding is NaN or Inf.
        """
        feed = self._evaluation.inputs.get(encoder)
        if feed is None:
            raise DataError(f"{EVALUATION_FILE} has no inputs for the {encoder} encoder")
        name, embed = (encoder, target, precision), embedder(call)
        first = embed(feed, BATCH)
        bad = int((~np.isfinite(first)).any(axis=1).sum())
        if bad:
            raise NumericError(f"{bad} of {len(first)} {encoder} embeddings of {precision} {target} are NaN or Inf")
        self._arrays[name] = first
        self.stability += stability(name, embed, feed, first)

    def rows(self) -> list[Row]:
        """The accuracy table, in the order of the release's."""
        targets = dict.fromkeys(target for _, target, _ in self._arrays)
        rows = [row for target in targets for row in self._task(target)]
        fidelity = all_fidelity_rows(self._arrays, self._evaluation.references)
        return [*fidelity, *(row for n, row in enumerate(rows) if row not in rows[:n])]

    def _task(self, target: str) -> Iterator[Row]:
        pairs = {"fp32": self._evaluation.references}  # belongs to no target, and is always there
        for precision in ("fp16", "fp8"):
            pairs[precision] = {e: a for (e, t, p), a in self._arrays.items() if (t, p) == (target, precision)}
        sides = {p: Side(pair["image"], pair["text"]) for p, pair in pairs.items() if len(pair) == 2}
        chance = importlib.util.find_spec("scipy") is not None
        yield from task_statistics(self._evaluation.task, target, _REFERENCE, sides, chance=chance)
