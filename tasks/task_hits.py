"""Which samples a pair of encoders gets right: zero-shot classification where there are labels, else retrieval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.data import Dataset
from tasks.embedding import evaluation_texts, prompts_of
from tasks.metrics import class_embeddings, retrieval_hits, top_k_hits

_TOP_K = (1, 5)
_RECALL_K = (1, 5, 10)
Embedded = NDArray[np.float32]
Hits = dict[str, NDArray[np.bool_]]


def task_hits(dataset: Dataset, indices: list[int], images: Embedded, texts: Embedded) -> Hits:
    """Hit or miss per sample, by metric; `indices` are the samples that the rows of `images` are of, and the rows of
    `texts` are `tasks.embedding.evaluation_texts`."""
    row_of = {text: row for row, text in enumerate(evaluation_texts(dataset))}
    if dataset.classes is None:
        return _retrieval(dataset, indices, images, texts, row_of)
    names = dataset.classes.names
    classes = class_embeddings(texts[[row_of[prompt] for prompt in prompts_of(dataset)]], len(names))
    labels = np.array([dataset.samples[index].label for index in indices], dtype=np.int64)
    return {f"top{k}": top_k_hits(images, classes, labels, k) for k in _TOP_K if k < len(names)}


def _retrieval(dataset: Dataset, indices: list[int], images: Embedded, texts: Embedded, row_of: dict[str, int]) -> Hits:
    """Equal pictures count as one, and so do equal captions."""
    samples = [dataset.samples[index] for index in indices]
    first: dict[str, int] = {}
    for row, sample in enumerate(samples):
        first.setdefault(sample.image_hash, row)
    captions = list(dict.fromkeys(sample.caption for sample in samples))
    place = {digest: row for row, digest in enumerate(first)}
    column = {caption: index for index, caption in enumerate(captions)}
    relevant = np.zeros((len(first), len(captions)), dtype=bool)
    for sample in samples:
        relevant[place[sample.image_hash], column[sample.caption]] = True
    pictures, words = images[list(first.values())], texts[[row_of[caption] for caption in captions]]
    hits = {}
    for k in _RECALL_K:
        if k < min(relevant.shape):
            hits[f"recall@{k}_image_to_text"] = retrieval_hits(pictures, words, relevant, k)
            hits[f"recall@{k}_text_to_image"] = retrieval_hits(words, pictures, relevant.T, k)
    return hits
