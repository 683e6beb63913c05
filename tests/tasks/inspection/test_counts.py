"""Counts over samples, compared with brute force."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from tasks.data.base import Classes, Sample
from tasks.inspection.counts import alike, by_picture, class_facts, overlap, repeated, spread
from tasks.inspection.holdings import SHOWN, Spread


@dataclass
class Listed:
    """A data set without pictures."""

    samples: Sequence[Sample]
    classes: Classes | None = None
    source: str = "listed"

    def image(self, index: int) -> None:
        raise AssertionError(f"picture {index} is decoded")


def drawn(seed: int, labelled: bool) -> Listed:
    """Some pictures with one to three captions, of which some have the same bytes."""
    random = np.random.default_rng(seed)
    samples = []
    for picture in range(int(random.integers(1, 30))):
        label, content = int(random.integers(0, 4)), f"hash {random.integers(0, 20)}"
        for caption in range(1 if labelled else int(random.integers(1, 4))):
            name = f"p{picture}" + (f"#{caption + 1}" if caption else "")
            samples.append(Sample(name, content, f"c{caption}", label if labelled else None, f"p{picture}"))
    return Listed(samples, Classes(("a", "b", "A ", "d", "none"), ("{}",)) if labelled else None)


SETS = [drawn(seed, labelled) for seed in range(20) for labelled in (True, False)]


@pytest.mark.parametrize("dataset", SETS)
def test_counts_are_those_of_brute_force(dataset: Listed) -> None:
    pictures = by_picture(dataset)
    ids = sorted({sample.picture for sample in dataset.samples})
    captions = {one: [n for n, sample in enumerate(dataset.samples) if sample.picture == one] for one in ids}
    assert pictures == captions
    sizes = sorted(map(len, captions.values()))
    assert spread(sizes) == Spread(sizes[0], statistics.median(sizes), sizes[-1])
    first = {one: dataset.samples[places[0]] for one, places in captions.items()}
    pairs = [(a, b) for a, b in itertools.permutations(ids, 2) if first[a].image_hash == first[b].image_hash]
    copies, two = repeated(dataset, pictures.values())
    assert copies.pictures == len({a for a, _ in pairs})
    assert copies.groups == len({first[a].image_hash for a, _ in pairs})
    apart = {first[a].image_hash for a, b in pairs if first[a].label != first[b].label}
    assert two.groups == len(apart)
    assert two.pictures == sum(first[one].image_hash in apart for one in ids)
    assert len(copies.first) == min(SHOWN, copies.groups)
    facts = class_facts(dataset)
    if dataset.classes is None:
        assert facts is None
    else:
        assert facts is not None and facts.alike == (("a", "A "),)
        labels = [sample.label for sample in dataset.samples]
        assert [each.samples for each in facts.counts] == [labels.count(number) for number in range(5)]


@pytest.mark.parametrize("seed", range(10))
def test_an_overlap_is_counted_from_the_first(seed: int) -> None:
    here, there = drawn(seed, True), drawn(seed + 100, False)
    found = overlap(here, there)
    shared = [each.id for each in here.samples if any(each.image_hash == other.image_hash for other in there.samples)]
    assert (found.samples, found.others) == (len(shared), len(there.samples))
    assert [pair[0] for pair in found.first] == shared[:SHOWN]
    by_name = {sample.id: sample.image_hash for sample in there.samples}
    own = {sample.id: sample.image_hash for sample in here.samples}
    assert all(own[a] == by_name[b] for a, b in found.first)


def test_names_that_read_alike_are_grouped() -> None:
    names = ["crane", "Crane", "cafe\u0301", "caf\u00e9", "two  words", "two words", "crane", "other"]
    assert alike(names) == (("crane", "Crane", "crane"), ("cafe\u0301", "caf\u00e9"), ("two  words", "two words"))
    assert alike(["a", "b"]) == ()


def test_of_nothing_there_is_no_spread() -> None:
    assert spread([]) is None
