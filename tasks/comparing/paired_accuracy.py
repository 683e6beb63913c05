"""Comparing two sets of embeddings of the same samples: closeness to FP32 and to each other, and accuracy on the task,
with intervals over pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from artifacts.manifest import Encoder, Row
from tasks.clip.base import ENCODERS
from tasks.data.base import Dataset
from tasks.evaluation.kept_embeddings import load_embedded, rows_of
from tasks.evaluation.metrics import cosine, paired_difference
from tasks.evaluation.question import task_of
from tasks.evaluation.scoring import Hits, Task
from tasks.pipeline.embedding import Embeddings

_Array = NDArray[np.float32]


@dataclass(frozen=True)
class Outputs:
    """One side's embeddings of the evaluation set by encoder: those of its engines, and of FP32 PyTorch if possible."""

    made: Mapping[Encoder, Embeddings]
    fp32: Mapping[Encoder, Embeddings]


class _Side:
    def __init__(self, outputs: Outputs) -> None:
        self.made = {encoder: load_embedded(e.outputs) for encoder, e in outputs.made.items()}
        self.fp32 = {encoder: load_embedded(e.outputs) for encoder, e in outputs.fp32.items()}

    def image_keys(self) -> list[list[int]]:
        """The indices of the samples that each image runtime decoded."""
        return [keys for arrays in (self.made, self.fp32) for e, (keys, _) in arrays.items() if e == "image"]

    def rows(self, encoder: Encoder, kept: list[int], *, fp32: bool = False) -> _Array | None:
        """An encoder's embeddings (for pictures, those of the samples `kept`); FP32's if the encoder was not run."""
        found = self.fp32.get(encoder) if fp32 else self.made.get(encoder) or self.fp32.get(encoder)
        if found is None or encoder == "text":
            return None if found is None else found[1]
        return rows_of(found, kept)

    def hits(self, task: Task, kept: list[int], *, fp32: bool = False) -> Hits:
        """The outcome of each sample in the task; empty if an encoder is missing."""
        images, texts = (self.rows(encoder, kept, fp32=fp32) for encoder in ("image", "text"))
        return {} if images is None or texts is None else task.hits(images, texts)


def accuracy_rows(dataset: Dataset, target: str, before: Outputs, after: Outputs) -> list[Row]:
    """One row per metric: both sides, the difference (after minus before), and its 95 % interval if pairs allow one."""
    sides = (_Side(before), _Side(after))
    decoded = [set(keys) for side in sides for keys in side.image_keys()]
    kept = sorted(set.intersection(*decoded)) if decoded else []
    return [
        *(row for encoder in before.made for row in _fidelity(encoder, target, sides, kept)),
        *_task(dataset, target, sides, kept),
    ]


def _fidelity(encoder: Encoder, target: str, sides: tuple[_Side, _Side], kept: list[int]) -> Iterator[Row]:
    first, second = (side.rows(encoder, kept) for side in sides)
    reference, other = (side.rows(encoder, kept, fp32=True) for side in sides)
    if first is None or second is None:
        return
    if reference is not None and other is not None:
        before, after = cosine(reference, first), cosine(other, second)
        for name, of in (("mean", np.mean), ("least", np.min)):
            values = (float(of(before)), float(of(after)))
            yield _row(encoder, target, f"{name} cosine with FP32", len(first), *values)
    if first.shape == second.shape:
        both = cosine(first, second)
        for name, value in (("mean", both.mean()), ("least", both.min())):
            yield _row(encoder, target, f"{name} cosine between the two", len(first), both=float(value))


def _task(dataset: Dataset, target: str, sides: tuple[_Side, _Side], kept: list[int]) -> Iterator[Row]:
    task = task_of(dataset, kept)
    first, second = (side.hits(task, kept) for side in sides)
    fp32 = sides[1].hits(task, kept, fp32=True)
    made = [[side.rows(encoder, kept) for side in sides] for encoder in ENCODERS]
    identical = all(one is not None and other is not None and np.array_equal(one, other) for one, other in made)
    for metric in first:
        if metric not in second:
            continue
        low, high = paired_difference(second[metric], first[metric], task.groups(metric), identical=identical)[1:]
        values = [float(hits[metric].mean()) for hits in (first, second)]
        row = _row("both", target, metric, len(first[metric]), values[0], values[1])
        yield row | {"low": low, "high": high, "fp32": float(fp32[metric].mean()) if metric in fp32 else None}


def _row(
    encoder: str,
    target: str,
    metric: str,
    samples: int,
    before: float | None = None,
    after: float | None = None,
    both: float | None = None,
) -> Row:
    return {
        "encoder": encoder,
        "target": target,
        "metric": metric,
        "before": before,
        "after": after if both is None else both,
        "difference": None if before is None or after is None else after - before,
        "low": None,
        "high": None,
        "fp32": None,
        "samples": samples,
    }
