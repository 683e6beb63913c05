"""Counts over the samples of an opened source: classes, captions, copies of pictures, overlap with another source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from statistics import median

from tasks.data.base import Dataset, label_counts
from tasks.data.class_names import read_aloud
from tasks.inspection.holdings import SHOWN, ClassCount, ClassFacts, Copy, Overlap, Repeated, Spread

_COPIES = 6  # copies of one picture that are named


def spread(numbers: Sequence[int]) -> Spread | None:
    """The smallest, the median and the largest number; None if there are no numbers."""
    return Spread(min(numbers), float(median(numbers)), max(numbers)) if numbers else None


def by_picture(dataset: Dataset) -> dict[str, list[int]]:
    """The indices of each picture's samples: several captions of one picture are one entry."""
    found: dict[str, list[int]] = {}
    for place, sample in enumerate(dataset.samples):
        found.setdefault(sample.picture or sample.id, []).append(place)
    return found


def class_facts(dataset: Dataset) -> ClassFacts | None:
    """The classes and how many samples each has; None for a set without classes."""
    classes = dataset.classes
    if classes is None:
        return None
    found = label_counts(dataset.samples)
    counts = tuple(ClassCount(name, found[number]) for number, name in enumerate(classes.names))
    return ClassFacts(classes.published, len(classes.templates), counts, alike(classes.names))


def alike(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of names that are equal, or differ only in case, Unicode form or white space."""
    groups = defaultdict(list)
    for name in names:
        groups[read_aloud(name)].append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def repeated(dataset: Dataset, pictures: Iterable[Sequence[int]]) -> tuple[Repeated, Repeated]:
    """Groups of `by_picture`'s pictures with equal bytes, and those of the groups with different classes."""
    groups: dict[str, list[int]] = {}
    for places in pictures:
        groups.setdefault(dataset.samples[places[0]].image_hash, []).append(places[0])
    several = [group for group in groups.values() if len(group) > 1]
    apart = [group for group in several if len({dataset.samples[place].label for place in group}) > 1]
    return _told(dataset, several), _told(dataset, apart)


def _told(dataset: Dataset, groups: Sequence[Sequence[int]]) -> Repeated:
    names = () if dataset.classes is None else dataset.classes.names

    def copy(place: int) -> Copy:
        sample = dataset.samples[place]
        return Copy(sample.id, None if sample.label is None else names[sample.label])

    first = tuple(tuple(map(copy, group[:_COPIES])) for group in groups[:SHOWN])
    return Repeated(len(groups), sum(map(len, groups)), first)


def overlap(dataset: Dataset, other: Dataset) -> Overlap:
    """Samples of `dataset` whose picture is also in `other`, compared by the bytes of the files."""
    there: dict[str, str] = {}
    for sample in other.samples:
        there.setdefault(sample.image_hash, sample.id)
    shared = [sample for sample in dataset.samples if sample.image_hash in there]
    first = tuple((sample.id, there[sample.image_hash]) for sample in islice(shared, SHOWN))
    return Overlap(other.source, len(shared), len(other.samples), first)
