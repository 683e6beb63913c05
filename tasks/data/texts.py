"""The texts of an evaluation set that a text encoder embeds, in the order of the rows of the embeddings."""

from __future__ import annotations

from tasks.data.base import Dataset
from tasks.data.templates import fill


def evaluation_texts(dataset: Dataset) -> list[str]:
    """Every distinct text that evaluation needs: class prompts first, then captions, in order of appearance."""
    return list(dict.fromkeys([*prompts_of(dataset), *(sample.caption for sample in dataset.samples)]))


def prompts_of(dataset: Dataset) -> list[str]:
    """All classes times all templates, class by class; empty without classes."""
    if dataset.classes is None:
        return []
    return [fill(template, name) for name in dataset.classes.names for template in dataset.classes.templates]
