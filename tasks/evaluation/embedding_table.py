"""All embeddings of one evaluation set by encoder, target and precision, aligned on samples that all could decode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from artifacts.manifest import Encoder, Row
from tasks.data.base import Dataset
from tasks.evaluation.kept_embeddings import REFERENCE, Embedded, rows_of
from tasks.evaluation.question import task_of
from tasks.evaluation.question_statistics import Side, task_statistics
from tasks.evaluation.scoring import Task

Key = tuple[str, str, str]
"""Encoder, target, precision."""


class EmbeddingTable:
    """The embeddings of FP32 PyTorch, which is the reference, and of every target, for the pictures `indices`."""

    def __init__(self, dataset: Dataset, arrays: Mapping[Key, Embedded]) -> None:
        self.dataset = dataset
        decoded = [keys for (encoder, _, _), (keys, _) in arrays.items() if encoder == "image"]
        self.indices: list[int] = sorted(set.intersection(*map(set, decoded))) if decoded else []
        # Only pictures that every runtime could decode: one that failed once is left out everywhere.
        self.arrays = {
            key: (self.indices, rows_of(found, self.indices)) if key[0] == "image" else found
            for key, found in arrays.items()
        }

    @property
    def task(self) -> Task:
        """Zero-shot classification if there are labels, else retrieval."""
        return task_of(self.dataset, self.indices)

    def targets(self) -> list[str]:
        """The targets except the reference, sorted."""
        return list(dict.fromkeys(target for _, target, _ in self.arrays if target != REFERENCE))

    def sides(self, target: str) -> dict[str, Side]:
        """The embeddings by precision: FP32's, and those of FP16 and FP8 that `target` ran."""
        precisions = [p for p in ("fp16", "fp8") if any(key[1:] == (target, p) for key in self.arrays)]
        return {"fp32": self._side(REFERENCE, "fp32")} | {p: self._side(target, p) for p in precisions}

    def reference(self, encoder: Encoder) -> NDArray[np.float32]:
        """The FP32 embeddings of an encoder, (n, d)."""
        return self.arrays[encoder, REFERENCE, "fp32"][1]

    def task_rows(self) -> Iterator[Row]:
        """Rows on the task, for both encoders together and every target; FP32's own rows once."""
        task = self.task
        for number, target in enumerate(self.targets()):
            for row in task_statistics(task, target, REFERENCE, self.sides(target)):
                if number == 0 or row["target"] != REFERENCE:
                    yield row

    def _side(self, target: str, precision: str) -> Side:
        return Side(self._encoder("image", target, precision), self._encoder("text", target, precision))

    def _encoder(self, encoder: Encoder, target: str, precision: str) -> NDArray[np.float32]:
        """One encoder's embeddings; FP32's for an encoder that is not optimized."""
        array = self.arrays.get((encoder, target, precision))
        return self.reference(encoder) if array is None else array[1]
