"""Rank agreement against SciPy's correlation, one query at a time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from tasks.evaluation.rank_agreement import ITEMS, QUERIES, Ranked, neighbour_agreement, rank_agreement, spaced
from tasks.evaluation.scoring import Classification, Retrieval
from tests.spearman import mean_spearman, neighbours_spearman


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def noisy(rng: np.random.Generator, count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rows = rng.standard_normal((count, 12)).astype(np.float32)
    return rows, rows + (noise * rng.standard_normal(rows.shape)).astype(np.float32)


def similarities(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    return np.asarray(cosine_similarity(queries.astype(float), items.astype(float)))


@pytest.mark.parametrize("noise", [0.01, 0.3, 3.0])
def test_it_is_scipys(noise: float, rng: np.random.Generator) -> None:
    first, second = map(Ranked, noisy(rng, 300, noise), noisy(rng, 41, noise))
    expected = mean_spearman(similarities(*first), similarities(*second))
    assert rank_agreement(first, second) == pytest.approx(expected, abs=1e-12)
    assert 0 < expected < 1


@pytest.mark.parametrize("noise", [0.01, 3.0])
def test_of_neighbours_it_is_scipys(noise: float, rng: np.random.Generator) -> None:
    """Nobody ranks itself."""
    sides = noisy(rng, 150, noise)
    assert neighbour_agreement(*sides) == pytest.approx(neighbours_spearman(*sides), abs=1e-12)


def test_the_same_order_is_exactly_one(rng: np.random.Generator) -> None:
    """Lengths do not matter, nor do equal rows."""
    queries, items = np.repeat(noisy(rng, 40, 0)[0], 2, axis=0), np.repeat(noisy(rng, 30, 0)[0], 2, axis=0)
    longer = Ranked(queries * np.float32(4), items * np.float32(2))
    assert rank_agreement(Ranked(queries, items), longer) == 1
    assert neighbour_agreement(items, items * np.float32(8)) == 1


def test_known_answers() -> None:
    angles = np.radians([10, 20, 30])
    items = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    east, north = np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)
    assert rank_agreement(Ranked(east, items), Ranked(north, items)) == -1
    swapped = items[[1, 0, 2]]  # ranks 1 2 3 against 2 1 3: 1 - 6 * 2 / (3 * 8)
    assert rank_agreement(Ranked(east, items), Ranked(east, swapped)) == 0.5


def test_shuffled_items_agree_by_chance(rng: np.random.Generator) -> None:
    queries, items = noisy(rng, 500, 0)[0], noisy(rng, 200, 0)[0]
    found = rank_agreement(Ranked(queries, items), Ranked(queries, rng.permutation(items)))
    assert found == pytest.approx(0, abs=0.1)


def test_two_samples_or_one_item_have_no_order(rng: np.random.Generator) -> None:
    rows, other = noisy(rng, 2, 0.1)
    assert neighbour_agreement(rows, other) is None
    assert neighbour_agreement(rows[:1], other[:1]) is None
    assert rank_agreement(Ranked(rows, rows[:1]), Ranked(other, other[:1])) is None
    assert rank_agreement(Ranked(rows, rows), Ranked(other, other)) is not None


def test_large_sets_are_thinned_evenly(rng: np.random.Generator) -> None:
    """Time and memory stay bounded; the estimate is that of all queries and items."""
    first, second = map(Ranked, noisy(rng, 20_000, 0.3), noisy(rng, 30_000, 0.3))
    tracemalloc.start()
    found = rank_agreement(first.thinned(), second.thinned())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    some, few = rng.choice(20_000, 200, replace=False), rng.choice(30_000, 5_000, replace=False)
    scores = [similarities(side.queries[some], side.items[few]) for side in (first, second)]
    assert found == pytest.approx(mean_spearman(*scores), abs=0.01)
    assert peak < 64e6


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (6, 5), (4_097, ITEMS), (50_000, QUERIES)])
def test_spaced(count: int, most: int) -> None:
    places = spaced(count, most)
    assert len(places) == len(set(places.tolist())) == min(count, most)
    assert (places[0], places[-1]) == (0, count - 1)
    step = (count - 1) // max(1, most - 1)
    assert {*np.diff(places).tolist()} <= {step, step + 1}


def test_tasks_rank_thinned_sets(rng: np.random.Generator) -> None:
    """However many samples there are, this is what is kept of them."""
    images, texts = noisy(rng, 3_000, 0)[0], noisy(rng, 6_000, 0)[0]
    classes = Classification(2, prompts=np.arange(2), labels=np.zeros(3_000, dtype=np.int64))
    pairs = np.stack([np.arange(6_000) // 2, np.arange(6_000)], axis=1)
    retrieval = Retrieval(np.arange(3_000), np.arange(6_000), pairs)
    found = classes.rankings(images, texts) | retrieval.rankings(images, texts)
    assert {metric: (len(one.queries), len(one.items)) for metric, one in found.items()} == {
        "rank_agreement": (1_024, 2),
        "rank_agreement_image_to_text": (1_024, 4_096),
        "rank_agreement_text_to_image": (1_024, 3_000),
    }
