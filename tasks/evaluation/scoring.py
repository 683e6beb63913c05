"""Rows of the accuracy table from embeddings: how close they are, and the accuracy on the task.

It needs only NumPy, so that a GPU machine with little more than PyTorch can fill the same table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifacts.schema import EACH_CAPTION
from tasks.evaluation.metrics import class_embeddings, cosine, retrieval_ranks, snr_db, top_k_hits
from tasks.evaluation.rank_agreement import QUERIES, Ranked, neighbour_agreement
from tasks.evaluation.relevance import Relevance

if TYPE_CHECKING:
    from artifacts.manifest import Row

_TOP_K = (1, 5)
_RECALL_K = (1, 5, 10)
_TO_IMAGE = "_text_to_image"
Hits = dict[str, NDArray[np.bool_]]
"""Hit or miss per sample, by metric."""
Rankings = dict[str, Ranked]
"""Rankings by metric."""


@dataclass(frozen=True)
class Classification:
    """Zero-shot classification: the class of every picture, (n,), and the row of every prompt among the texts, class by
    class, (classes * templates,)."""

    classes: int
    prompts: NDArray[np.int64]
    labels: NDArray[np.int64]

    reference = "labels"

    def hits(self, images: NDArray[np.float32], texts: NDArray[np.float32]) -> Hits:
        """Of embeddings (n, d) and (texts, d)."""
        classes = class_embeddings(texts[self.prompts], self.classes)
        return {f"top{k}": top_k_hits(images, classes, self.labels, k) for k in _TOP_K if k < self.classes}

    def groups(self, metric: str) -> None:
        """None: pictures are independent, so each is drawn by itself."""
        del metric

    def rankings(self, images: NDArray[np.float32], texts: NDArray[np.float32]) -> Rankings:
        """Pictures rank the classes; a part of a large set (see `Ranked.thinned`)."""
        return {"rank_agreement": Ranked(images, class_embeddings(texts[self.prompts], self.classes)).thinned()}


@dataclass(frozen=True)
class Retrieval:
    """Retrieval among different pictures and different captions, given by their rows (p,) and (c,). `pairs` (n, 2) are
    the indices of a picture and a caption that belong together, sorted by picture."""

    pictures: NDArray[np.int64]
    captions: NDArray[np.int64]
    pairs: NDArray[np.int64]

    reference = "captions"

    @property
    def relevant(self) -> Relevance:
        """The relevance with pictures as queries and captions as items."""
        return Relevance(self.pairs, (len(self.pictures), len(self.captions)))

    def hits(self, images: NDArray[np.float32], texts: NDArray[np.float32]) -> Hits:
        """Of embeddings (n, d) and (texts, d)."""
        return _recalls(images[self.pictures], texts[self.captions], self.relevant)

    def hits_of_each_caption(self, images: NDArray[np.float32], texts: NDArray[np.float32]) -> Hits:
        """Hits as CLIP_benchmark counts them (`clip_benchmark/metrics/zeroshot_retrieval.py`): a caption of several
        pictures counts as several captions, each right for one picture. Empty if there is no such caption."""
        if len(self.pairs) == len(self.captions):
            return {}
        own = np.stack([self.pairs[:, 0], np.arange(len(self.pairs))], axis=1)
        each = Relevance(own, (len(self.pictures), len(self.pairs)))
        found = _recalls(images[self.pictures], texts[self.captions[self.pairs[:, 1]]], each)
        return {f"{metric}{EACH_CAPTION}": hits for metric, hits in found.items()}

    def groups(self, metric: str) -> NDArray[np.int64] | None:
        """The group of each of a metric's samples: captions of one picture form a group, as they share its embedding.

        None if all samples are independent.
        """
        if not metric.endswith(_TO_IMAGE):
            return None
        swapped = self.relevant.swapped.pairs
        found = swapped[np.searchsorted(swapped[:, 0], np.arange(len(self.captions))), 1]
        return None if len(np.unique(found)) == len(found) else found

    def rankings(self, images: NDArray[np.float32], texts: NDArray[np.float32]) -> Rankings:
        """Pictures rank the captions, and captions the pictures; a part of a large set (see `Ranked.thinned`)."""
        pictures, words = images[self.pictures], texts[self.captions]
        return {
            "rank_agreement_image_to_text": Ranked(pictures, words).thinned(),
            "rank_agreement_text_to_image": Ranked(words, pictures).thinned(),
        }


def _recalls(pictures: NDArray[np.float32], words: NDArray[np.float32], relevant: Relevance) -> Hits:
    """Hits of recall@k for embeddings (p, d) and (c, d), in both directions."""
    to_text = retrieval_ranks(pictures, words, relevant)
    to_image = retrieval_ranks(words, pictures, relevant.swapped)
    found: Hits = {}
    for k in _RECALL_K:
        if k < min(relevant.shape):
            found |= {f"recall@{k}_image_to_text": to_text < k, f"recall@{k}{_TO_IMAGE}": to_image < k}
    return found


Task = Classification | Retrieval


def _fidelity_rows(
    pair: tuple[str, str, str], reference: str, first: NDArray[np.float32], second: NDArray[np.float32]
) -> Iterator[Row]:
    """How close `second` (n, d), embeddings of `pair` (encoder, target, precision), is to `first` of `reference`."""
    similarity = cosine(first, second)
    values = {
        "cosine_mean": float(similarity.mean()),
        "cosine_min": float(similarity.min()),
        "max_abs": float(np.abs(first - second).max()),
        "snr_db": snr_db(first, second),
        "nonfinite": float((~np.isfinite(second)).sum()),
    }
    for metric, value in values.items():
        yield accuracy_row(*pair, reference, metric, value, len(second))
    agreement, ranked = neighbour_agreement(first, second), min(len(second), QUERIES)
    yield accuracy_row(*pair, reference, "rank_agreement", agreement, ranked)


def all_fidelity_rows(
    arrays: Mapping[tuple[str, str, str], NDArray[np.float32]], fp32: Mapping[str, NDArray[np.float32]]
) -> Iterator[Row]:
    """Compare each of `arrays` (by encoder, target, precision) with `fp32` (by encoder), and FP8 also with FP16."""
    for (encoder, target, precision), array in arrays.items():
        yield from _fidelity_rows((encoder, target, precision), "fp32", fp32[encoder], array)
        fp16 = arrays.get((encoder, target, "fp16"))
        if precision == "fp8" and fp16 is not None:
            yield from _fidelity_rows((encoder, target, precision), "fp16", fp16, array)


def hit_rows(target: str, precision: str, reference: str, hits: Hits) -> Iterator[Row]:
    """A row per metric: the share of hits, of both encoders together."""
    for metric, outcome in hits.items():
        yield accuracy_row("both", target, precision, reference, metric, float(outcome.mean()), len(outcome))


def accuracy_row(
    encoder: str,
    target: str,
    precision: str,
    reference: str,
    metric: str,
    value: float | None,
    samples: int,
    low: float | None = None,
    high: float | None = None,
) -> Row:
    """A row of the accuracy table (see `artifacts.schema`)."""
    return {
        "encoder": encoder,
        "target": target,
        "precision": precision,
        "reference": reference,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "samples": samples,
    }
