"""The effect of rounding on single classes and samples: too much for the tables, so it is kept as evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifacts.manifest import Row
from tasks.data.base import Classes
from tasks.data.texts import evaluation_texts
from tasks.evaluation.embedding_table import EmbeddingTable
from tasks.evaluation.metrics import alike_classes, class_embeddings, class_recall, normalise, similarity_to
from tasks.evaluation.question_statistics import Side
from tasks.evaluation.scoring import Classification, Task
from tasks.evaluation.thumbnails import thumbnail

NAMELESS = "(no name)"
"""The name shown for a class whose line in a published list is blank."""
_SHOWN_SAMPLES = 10
_SHOWN_RANKS = 3
_CHUNK = 1024  # pictures per batch of similarities


def class_rows(table: EmbeddingTable) -> Iterator[Row]:
    """A row for each class and target: its number of samples, and its recall in each precision (None if it was not
    measured, or the class has no samples)."""
    task = table.task
    if not isinstance(task, Classification) or table.dataset.classes is None:
        return
    names, counts = _shown_names(table.dataset.classes), np.bincount(task.labels, minlength=task.classes)
    for target in table.targets():
        hits = {precision: task.hits(*side) for precision, side in table.sides(target).items()}
        recalls = {p: class_recall(h["top1"], task.labels, task.classes) for p, h in hits.items() if "top1" in h}
        for label in range(task.classes):
            measured = recalls if counts[label] else {}
            values = {p: float(measured[p][label]) if p in measured else None for p in ("fp32", "fp16", "fp8")}
            yield {"target": target, "class": names[label], "samples": int(counts[label]), **values}


def alike_names(table: EmbeddingTable) -> list[list[str]]:
    """Groups of names of classes whose FP32 text embeddings are equal."""
    task, classes = table.task, table.dataset.classes
    if not isinstance(task, Classification) or classes is None or not len(task.labels):
        return []
    names = _shown_names(classes)
    groups = alike_classes(class_embeddings(table.reference("text")[task.prompts], task.classes))
    return [[names[label] for label in group] for group in groups]


def _shown_names(classes: Classes) -> list[str]:
    return [name or NAMELESS for name in classes.names]


class _Standing(NamedTuple):
    """For each picture: the margin in cosine of the best right answer over the best wrong one, (n,); the best answers
    in order, (n, k); and whether the first of them is right, (n,)."""

    margin: NDArray[np.float64]
    best: NDArray[np.int64]
    found: NDArray[np.bool_]


def changed_rows(table: EmbeddingTable) -> Iterator[Row]:
    """For every target, the samples that FP8 changes most compared with FP32, with the best answers of both.

    Samples that become right or wrong come first; then they are ordered by the change of the margin.
    """
    task = table.task
    names, truths, places = _answers(table, task)
    for target in table.targets():
        sides = table.sides(target)
        if "fp8" not in sides or len(names) < 2:
            continue
        before, after = (_standing(task, sides[precision]) for precision in ("fp32", "fp8"))
        flipped = before.found != after.found
        for row in np.lexsort((-abs(after.margin - before.margin), ~flipped))[:_SHOWN_SAMPLES]:
            yield {
                "target": target,
                "sample": table.dataset.samples[places[row]].id,
                "thumbnail": thumbnail(table.dataset, places[row]),
                "truth": truths[row],
                "fp32": _ranking(names, before.best[row]),
                "fp8": _ranking(names, after.best[row]),
                "fp32_margin": float(before.margin[row]),
                "fp8_margin": float(after.margin[row]),
            }


def _ranking(names: Sequence[str], best: NDArray[np.int64]) -> str:
    return " > ".join(names[item] for item in best)


def _answers(table: EmbeddingTable, task: Task) -> tuple[Sequence[str], Sequence[str], list[int]]:
    """All possible answers; and for each picture, its right answers and its index in the data set."""
    if isinstance(task, Classification):
        assert table.dataset.classes is not None
        names = _shown_names(table.dataset.classes)
        return names, [names[label] for label in task.labels], table.indices
    texts = evaluation_texts(table.dataset)
    captions, relevant = [texts[row] for row in task.captions], task.relevant
    truths = [" / ".join(captions[column] for column in relevant.items(row)) for row in range(len(task.pictures))]
    return captions, truths, [table.indices[row] for row in task.pictures]


def _standing(task: Task, side: Side) -> _Standing:
    if isinstance(task, Classification):
        pictures, answers = side.images, class_embeddings(side.texts[task.prompts], task.classes)
    else:
        pictures, answers = side.images[task.pictures], normalise(side.texts[task.captions])
    similarity = similarity_to(answers)
    margins, best, found = [], [], []
    for start in range(0, len(pictures), _CHUNK):
        scores = similarity(normalise(pictures[start : start + _CHUNK]))  # (chunk, answers)
        right = _right(task, start, len(scores))
        margins.append(np.where(right, scores, -2).max(axis=1) - np.where(right, -2, scores).max(axis=1))
        best.append(np.argsort(-scores, axis=1, kind="stable")[:, :_SHOWN_RANKS])
        found.append(np.take_along_axis(right, best[-1][:, :1], axis=1)[:, 0])
    return _Standing(np.concatenate(margins).astype(np.float64), np.concatenate(best), np.concatenate(found))


def _right(task: Task, start: int, count: int) -> NDArray[np.bool_]:
    """Which answers are right, for `count` pictures from index `start`: (count, answers)."""
    if isinstance(task, Classification):
        labels = task.labels[start : start + count]
        return np.asarray(labels[:, None] == np.arange(task.classes))
    return task.relevant.rows(start, count)
