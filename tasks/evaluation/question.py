"""The task of a data set: zero-shot classification if it has labels, else retrieval."""

from __future__ import annotations

import numpy as np

from tasks.data.base import Dataset
from tasks.data.texts import evaluation_texts, prompts_of
from tasks.evaluation.scoring import Classification, Retrieval, Task


def task_of(dataset: Dataset, indices: list[int]) -> Task:
    """The task of a data set, for the pictures of the samples `indices` and the texts of
    `tasks.pipeline.embedding.evaluation_texts`."""
    row_of = {text: row for row, text in enumerate(evaluation_texts(dataset))}
    if dataset.classes is None:
        return _retrieval(dataset, indices, row_of)
    prompts = np.array([row_of[prompt] for prompt in prompts_of(dataset)], dtype=np.int64)
    labels = np.array([dataset.samples[index].label for index in indices], dtype=np.int64)
    return Classification(len(dataset.classes.names), prompts, labels)


def _retrieval(dataset: Dataset, indices: list[int], row_of: dict[str, int]) -> Retrieval:
    """Equal pictures count as one picture, equal captions as one caption. A picture has the captions of all samples
    that show it, also of samples that are not in `indices`."""
    first: dict[str, int] = {}
    for row, index in enumerate(indices):
        first.setdefault(dataset.samples[index].image_hash, row)
    samples = [sample for sample in dataset.samples if sample.image_hash in first]
    captions = list(dict.fromkeys(sample.caption for sample in samples))
    place = {digest: row for row, digest in enumerate(first)}
    column = {caption: index for index, caption in enumerate(captions)}
    pairs = sorted({(place[sample.image_hash], column[sample.caption]) for sample in samples})
    rows = [row_of[caption] for caption in captions]
    return Retrieval(*(np.array(values, dtype=np.int64) for values in (list(first.values()), rows, pairs)))
