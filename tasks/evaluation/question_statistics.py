"""Statistics of FP32, FP16 and FP8 on one task: rates, paired differences with intervals, and tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifacts.report.task_table import PAIRS
from artifacts.schema import ALIKE, OVER_CHANCE
from tasks.evaluation.metrics import (
    alike_classes,
    class_embeddings,
    class_recall,
    class_recall_difference,
    mcnemar_p,
    over_chance,
    paired_difference,
    predicted_classes,
    retrieval_over_chance,
)
from tasks.evaluation.rank_agreement import rank_agreement
from tasks.evaluation.scoring import Classification, Hits, Rankings, Retrieval, Task, accuracy_row, hit_rows

if TYPE_CHECKING:
    from artifacts.manifest import Row

_IMAGE_TO_TEXT = "recall@1_image_to_text"


class Side(NamedTuple):
    """The embeddings of one precision: pictures (n, d) and texts (t, d)."""

    images: NDArray[np.float32]
    texts: NDArray[np.float32]

    def is_same(self, other: Side) -> bool:
        """Whether both are equal bit for bit: then every outcome is equal too, on any samples."""
        return all(np.array_equal(mine, its) for mine, its in zip(self, other, strict=True))


def task_statistics(
    task: Task, target: str, reference_target: str, sides: Mapping[str, Side], *, chance: bool = True
) -> Iterator[Row]:
    """Rows of the accuracy table on the task; `sides` by precision: FP32 ran on `reference_target`, others on `target`.

    `chance` adds how far FP32 is above chance, which needs SciPy (nothing else here does).
    """
    hits = {precision: task.hits(*side) for precision, side in sides.items()}
    rankings = {precision: task.rankings(*side) for precision, side in sides.items()}
    for precision, found in hits.items():
        place = reference_target if precision == "fp32" else target
        yield from hit_rows(place, precision, task.reference, found)
        if isinstance(task, Classification) and "top1" in found:
            yield _recall_row(task, place, precision, found)
        if not isinstance(task, Classification):
            yield from hit_rows(place, precision, task.reference, task.hits_of_each_caption(*sides[precision]))
    if isinstance(task, Classification) and "fp32" in sides:
        yield from _alike_rows(task, reference_target, sides["fp32"])
    if chance and _IMAGE_TO_TEXT in hits.get("fp32", {}) and not isinstance(task, Classification):
        yield _retrieval_chance_row(task, reference_target, hits["fp32"])
    if chance and isinstance(task, Classification) and "top1" in hits.get("fp32", {}):
        yield _chance_row(task, reference_target, sides["fp32"], hits["fp32"])
    for precision, baseline in PAIRS:
        if precision in hits and baseline in hits:
            identical = sides[precision].is_same(sides[baseline])
            yield from _paired_rows(task, (target, precision, baseline), hits[precision], hits[baseline], identical)
            yield from _rank_rows((target, precision, baseline), rankings[precision], rankings[baseline])


def _recall_row(task: Classification, target: str, precision: str, hits: Hits) -> Row:
    """The mean of the classes' recalls, over classes that have samples, each with the same weight."""
    recalls = class_recall(hits["top1"], task.labels, task.classes)
    recall = float(recalls[~np.isnan(recalls)].mean())  # summed as in scikit-learn, for equal digits
    return accuracy_row("both", target, precision, task.reference, "mean_class_recall", recall, len(task.labels))


def _alike_rows(task: Classification, target: str, side: Side) -> Iterator[Row]:
    """A row with the number of classes whose embedding equals another's; no row if there are none."""
    alike = sum(map(len, alike_classes(class_embeddings(side.texts[task.prompts], task.classes))))
    if alike:
        yield accuracy_row("text", target, "fp32", task.reference, ALIKE, alike, task.classes)


def _chance_row(task: Classification, target: str, side: Side, hits: Hits) -> Row:
    predicted = predicted_classes(side.images, class_embeddings(side.texts[task.prompts], task.classes))
    value, low, high = over_chance(hits["top1"], predicted, task.labels)
    return accuracy_row("both", target, "fp32", "chance", OVER_CHANCE[0], value, len(task.labels), low, high)


def _retrieval_chance_row(task: Retrieval, target: str, hits: Hits) -> Row:
    """How far image-to-text recall@1 is above chance. Captions are not used as queries: those of one picture are not
    independent."""
    value, low, high = retrieval_over_chance(hits[_IMAGE_TO_TEXT], task.relevant)
    return accuracy_row("both", target, "fp32", "chance", OVER_CHANCE[1], value, len(task.pictures), low, high)


def _rank_rows(which: tuple[str, str, str], side: Rankings, baseline: Rankings) -> Iterator[Row]:
    """Rows on the agreement of rankings; `which` is (target, precision, reference)."""
    for metric, ranked in side.items():
        value = rank_agreement(ranked, baseline[metric])
        yield accuracy_row("both", *which, metric, value, len(ranked.queries))


def _paired_rows(task: Task, which: tuple[str, str, str], hits: Hits, baseline: Hits, identical: bool) -> Iterator[Row]:
    """Rows of paired differences and McNemar's p; `which` is (target, precision, reference)."""
    for metric, outcome in hits.items():
        groups = task.groups(metric)
        value, low, high = paired_difference(outcome, baseline[metric], groups, identical=identical)
        yield accuracy_row("both", *which, f"{metric}_difference", value, len(outcome), low, high)
        p = mcnemar_p(outcome, baseline[metric], groups)
        yield accuracy_row("both", *which, f"{metric}_mcnemar_p", p, len(outcome))
    if isinstance(task, Classification) and "top1" in hits:
        value, low, high = class_recall_difference(hits["top1"], baseline["top1"], task.labels, identical=identical)
        yield accuracy_row("both", *which, "mean_class_recall_difference", value, len(task.labels), low, high)
