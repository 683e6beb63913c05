"""Metrics against scikit-learn, brute force, and a bootstrap written the slow way."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, recall_score, top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity, paired_cosine_distances
from sklearn.preprocessing import normalize

from tasks.evaluation import metrics
from tests.tasks.evaluation.test_relevance import relevance

HEAVY = pytest.mark.heavy


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2)


def test_cosine_is_scikit_learns(rng: np.random.Generator) -> None:
    a = rng.standard_normal((50, 16)).astype(np.float32) * 7
    b = a + rng.standard_normal((50, 16)).astype(np.float32)
    np.testing.assert_allclose(metrics.cosine(a, b), 1 - paired_cosine_distances(a.astype(float), b.astype(float)))
    assert metrics.cosine(a, -3 * a) == pytest.approx(-np.ones(50))


def test_cosine_sees_the_seventh_digit() -> None:
    """In float32 a cosine this close to one would round to one."""
    a = np.ones((1, 1024), np.float32)
    b = a.copy()
    b[0, 0] += 0.01
    exact = 1024.01 / np.sqrt(1024 * (1023 + 1.01**2))
    assert 1 - metrics.cosine(a, b)[0] == pytest.approx(1 - exact, rel=1e-2)
    assert metrics.cosine(a, b)[0] < 1


def test_snr_of_known_noise(rng: np.random.Generator) -> None:
    signal = rng.standard_normal((200, 100)).astype(np.float32)
    noise = rng.standard_normal((200, 100)).astype(np.float32) / 100
    assert metrics.snr_db(signal, signal + noise) == pytest.approx(40, abs=0.2)
    assert metrics.snr_db(signal, signal * np.float32(0.9)) == pytest.approx(20, abs=1e-3)
    assert metrics.snr_db(signal, signal.copy()) is None


@pytest.mark.parametrize("k", [1, 5])
def test_top_k_is_scikit_learns(k: int, rng: np.random.Generator) -> None:
    classes = normalize(rng.standard_normal((10, 8))).astype(np.float32)
    labels = rng.integers(0, 10, 300)
    images = (classes[labels] + 0.6 * rng.standard_normal((300, 8))).astype(np.float32)
    hits = metrics.top_k_hits(images, classes, labels, k)
    scores = cosine_similarity(images, classes)
    expected = top_k_accuracy_score(labels, scores, k=k, labels=np.arange(10))
    assert hits.mean() == expected
    assert 0.2 < expected < 1


def test_class_embeddings_are_the_mean_of_unit_prompts(rng: np.random.Generator) -> None:
    prompts = (rng.standard_normal((12, 5)) * rng.uniform(1, 9, (12, 1))).astype(np.float32)
    expected = np.stack([normalize(normalize(prompts[start : start + 4]).mean(axis=0)[None])[0] for start in (0, 4, 8)])
    np.testing.assert_allclose(metrics.class_embeddings(prompts, 3), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_recall_is_brute_force(k: int, rng: np.random.Generator) -> None:
    queries = rng.standard_normal((20, 6)).astype(np.float32)
    items = rng.standard_normal((30, 6)).astype(np.float32)
    relevant = rng.random((20, 30)) < 0.08
    relevant[:, 7] |= ~relevant.any(axis=1)
    hits = metrics.retrieval_ranks(queries, items, relevance(relevant)) < k
    for row, query in enumerate(queries):
        ranked = sorted(range(30), key=lambda i: -float(cosine_similarity(query[None], items[i][None])[0, 0]))
        assert hits[row] == any(relevant[row, i] for i in ranked[:k])
    assert 0 < hits.mean() < 1


def test_ranks_of_more_queries_than_are_held_at_a_time(rng: np.random.Generator) -> None:
    """Whole numbers, so that many are equal: a stable sort is what decides."""
    queries = rng.integers(-1, 2, (1300, 4)).astype(np.float32) + np.float32(0.5)
    items = rng.integers(-1, 2, (40, 4)).astype(np.float32) + np.float32(0.5)
    relevant = np.arange(1300)[:, None] % 40 == np.arange(40)
    relevant |= np.roll(relevant, 3, axis=1)
    blocks = [metrics.normalise(queries[start : start + 512]) for start in (0, 512, 1024)]
    scores = np.concatenate([block @ metrics.normalise(items).T for block in blocks])
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = np.take_along_axis(relevant, order, axis=1).argmax(axis=1)
    np.testing.assert_array_equal(metrics.retrieval_ranks(queries, items, relevance(relevant)), expected)
    assert len(set(expected)) > 10


def test_top_k_of_more_pictures_than_are_held_at_a_time(rng: np.random.Generator) -> None:
    images, classes = rng.standard_normal((1300, 6)).astype(np.float32), normalize(rng.standard_normal((9, 6)))
    labels = rng.integers(0, 9, 1300)
    hits = metrics.top_k_hits(images, classes.astype(np.float32), labels, 3)
    expected = top_k_accuracy_score(labels, cosine_similarity(images, classes), k=3, normalize=False)
    assert hits.sum() == expected


def slow_bootstrap(first: np.ndarray, second: np.ndarray, rounds: int = 4000) -> tuple[float, float]:
    rng = np.random.default_rng(99)
    means = []
    for _ in range(rounds):
        picked = rng.integers(0, len(first), len(first))
        means.append(first[picked].mean() - second[picked].mean())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize(("p", "q", "n"), [(0.9, 0.8, 200), (0.99, 0.985, 500), (0.5, 0.5, 60)])
def test_paired_interval_is_the_percentile_bootstrap(p: float, q: float, n: int, rng: np.random.Generator) -> None:
    first, second = rng.random(n) < p, rng.random(n) < q
    value, low, high = metrics.paired_difference(first, second)
    assert value == pytest.approx(first.mean() - second.mean())
    expected = slow_bootstrap(first, second)
    assert (low, high) == pytest.approx(expected, abs=2.5 / n)
    assert low <= value <= high


def test_pairing_counts(rng: np.random.Generator) -> None:
    """Equal outcomes have little uncertainty in their difference, however uncertain each is."""
    outcome = rng.random(100) < 0.5
    value, low, high = metrics.paired_difference(outcome, outcome)
    assert value == 0
    assert 0 < high - low < 0.05
    _, low, high = metrics.paired_difference(outcome, rng.permutation(outcome))
    assert high - low > 0.1


def test_identical_embeddings_leave_nothing_open() -> None:
    outcome = np.array([True, False, True])
    labels = np.array([0, 1, 1])
    assert metrics.paired_difference(outcome, outcome, identical=True) == (0, 0, 0)
    assert metrics.class_recall_difference(outcome, outcome, labels, identical=True) == (0, 0, 0)
    assert metrics.mcnemar_p(outcome, outcome) == 1


def drawn_pairs(rng: np.random.Generator, n: int, won: float, lost: float) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of n samples: the first alone is right in a share `won`, the second alone in `lost`, both in half of the
    rest."""
    drawn = rng.random(n)
    both = rng.random(n) < 0.5
    first = (drawn < won) | ((drawn >= won + lost) & both)
    second = ((drawn >= won) & (drawn < won + lost)) | ((drawn >= won + lost) & both)
    return first, second


# Down to where most sets hold no sample that differs, and the plain bootstrap covers a drop of a point in 45 %.
@pytest.mark.parametrize(
    ("n", "won", "lost"),
    [(300, 0.25, 0.1), (1000, 0.02, 0.01), (200, 0.01, 0.01), (500, 0.0, 0.01), (64, 0.0, 0.01), (64, 0.001, 0.001)],
)
def test_paired_interval_covers_the_truth_as_often_as_it_says(n: int, won: float, lost: float) -> None:
    rng, runs = np.random.default_rng(8), 400
    covered = 0
    for _ in range(runs):
        value, low, high = metrics.paired_difference(*drawn_pairs(rng, n, won, lost))
        assert low <= value <= high
        covered += low - 1e-12 <= won - lost <= high + 1e-12
    # Not below 95 % by more than chance explains once in ten thousand.
    assert binomtest(covered, runs, 0.95, alternative="less").pvalue > 1e-4, covered / runs


def drawn_groups(
    rng: np.random.Generator, sizes: np.ndarray, won: float, lost: float, alike: float
) -> tuple[np.ndarray, ...]:
    """Outcomes of samples in groups: a group's samples are all drawn as one in a share `alike`, else each by itself."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    alone, shared = drawn_pairs(rng, len(groups), won, lost), drawn_pairs(rng, len(sizes), won, lost)
    together = (rng.random(len(sizes)) < alike)[groups]
    first, second = (np.where(together, mine[groups], own) for mine, own in zip(shared, alone, strict=True))
    return first, second, groups


@pytest.mark.parametrize(
    ("won", "lost", "alike"),
    [
        pytest.param(won, lost, alike, marks=() if (won, alike) in ((0.02, 1.0), (0.02, 0.0), (0.2, 1.0)) else HEAVY)
        for won, lost in ((0.2, 0.1), (0.02, 0.02), (0.0, 0.01))
        for alike in (1.0, 0.5, 0.0)
    ],
)
def test_captions_of_one_picture_do_not_count_as_so_many(won: float, lost: float, alike: float) -> None:
    rng, runs, covered, tested = np.random.default_rng(12), 150, 0, 0
    for _ in range(runs):
        first, second, groups = drawn_groups(rng, rng.integers(1, 8, 150), won, lost, alike)
        value, low, high = metrics.paired_difference(first, second, groups)
        assert low <= value <= high
        covered += low - 1e-12 <= won - lost <= high + 1e-12
        if won == lost:
            tested += metrics.mcnemar_p(first, second, groups) < 0.05
    assert binomtest(covered, runs, 0.95, alternative="less").pvalue > 1e-4, covered / runs
    assert binomtest(tested, runs, 0.05, alternative="greater").pvalue > 1e-4, tested / runs


def test_groups_of_one_are_samples(rng: np.random.Generator) -> None:
    first, second = rng.random(400) < 0.6, rng.random(400) < 0.5
    groups = rng.permutation(400)
    plain, grouped = metrics.paired_difference(first, second), metrics.paired_difference(first, second, groups)
    assert grouped == pytest.approx(plain, abs=0.004)
    assert metrics.mcnemar_p(first, second, groups) == pytest.approx(metrics.mcnemar_p(first, second), rel=1e-9)


def test_the_test_of_groups_counts_every_choice_of_signs(rng: np.random.Generator) -> None:
    for _ in range(20):
        groups = rng.integers(0, 9, 40)
        first, second = rng.random(40) < 0.6, rng.random(40) < 0.4
        changes = [int(first[groups == g].sum()) - int(second[groups == g].sum()) for g in np.unique(groups)]
        sums = [abs(int(np.dot(signs, changes))) for signs in product((-1, 1), repeat=len(changes))]
        expected = np.mean([total >= abs(sum(changes)) for total in sums])
        assert metrics.mcnemar_p(first, second, groups) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("won", "lost"), [(0.2, 0.1), (0.0, 0.01)])
def test_interval_of_mean_class_recall_covers_too(won: float, lost: float) -> None:
    rng, runs, covered = np.random.default_rng(5), 150, 0
    labels = np.repeat(np.arange(4), (10, 30, 60, 100))
    for _ in range(runs):
        value, low, high = metrics.class_recall_difference(*drawn_pairs(rng, 200, won, lost), labels)
        assert low <= value <= high
        covered += low - 1e-12 <= won - lost <= high + 1e-12
    assert binomtest(covered, runs, 0.95, alternative="less").pvalue > 1e-4, covered / runs


def test_class_recall_is_scikit_learns(rng: np.random.Generator) -> None:
    labels = rng.choice([0, 1, 2, 4], 200, p=[0.7, 0.1, 0.1, 0.1])  # class 3 is empty
    predicted = np.where(rng.random(200) < 0.6, labels, rng.integers(0, 5, 200))
    other = np.where(rng.random(200) < 0.9, labels, rng.integers(0, 5, 200))
    recall = metrics.class_recall(predicted == labels, labels, 5)
    np.testing.assert_allclose(recall[[0, 1, 2, 4]], recall_score(labels, predicted, average=None, labels=[0, 1, 2, 4]))
    assert np.isnan(recall[3])
    expected = balanced_accuracy_score(labels, other) - balanced_accuracy_score(labels, predicted)
    assert metrics.class_recall_difference(other == labels, predicted == labels, labels)[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("won", "lost", "p"), [(0, 0, 1), (5, 0, 0.0625), (1, 7, 0.0703125), (3, 3, 1), (2, 10, 0.03857421875)]
)
def test_mcnemar_by_hand(won: int, lost: int, p: float) -> None:
    """Twice the sum of the binomial tail: 2 * C(5, 0) / 2^5, 2 * (1 + 8) / 2^8, 2 * (1 + 12 + 66) / 2^12."""
    first = np.array([True] * won + [False] * lost + [True, False])
    second = np.array([False] * won + [True] * lost + [True, False])
    assert metrics.mcnemar_p(first, second) == pytest.approx(p)


@pytest.mark.parametrize(("won", "lost"), [(0, 1), (40, 55), (3, 900), (10_000, 10_300)])
def test_mcnemar_is_scipys(won: int, lost: int) -> None:
    first = np.array([True] * won + [False] * lost)
    assert metrics.mcnemar_p(first, ~first) == pytest.approx(binomtest(won, won + lost).pvalue, rel=1e-9)


def test_over_chance_is_the_numerator_of_kappa(rng: np.random.Generator) -> None:
    labels = rng.choice(4, 300, p=[0.6, 0.2, 0.1, 0.1])
    predicted = np.where(rng.random(300) < 0.7, labels, rng.choice(4, 300, p=[0.1, 0.1, 0.1, 0.7]))
    value, low, high = metrics.over_chance(predicted == labels, predicted, labels)
    agreed = (predicted == labels).mean()
    chance = agreed - value
    assert (agreed - chance) / (1 - chance) == pytest.approx(cohen_kappa_score(labels, predicted))
    assert 0 < low < value < high


def test_shuffled_labels_are_at_chance() -> None:
    """A classifier that is right in nine of ten, and of a skewed set: shuffled, it is hardly ever above chance."""
    rng, runs, above = np.random.default_rng(4), 300, 0
    labels = rng.choice(5, 200, p=[0.6, 0.1, 0.1, 0.1, 0.1])
    predicted = np.where(rng.random(200) < 0.9, labels, rng.integers(0, 5, 200))
    assert metrics.over_chance(predicted == labels, predicted, labels)[1] > 0
    for _ in range(runs):
        shuffled = rng.permutation(labels)
        above += metrics.over_chance(predicted == shuffled, predicted, shuffled)[1] > 0
    assert binomtest(above, runs, 0.025, alternative="greater").pvalue > 1e-4


def test_shuffled_captions_are_at_chance() -> None:
    """Three captions for each of 80 pictures, found more often than not: shuffled, hardly ever above chance."""
    rng, runs, above, values = np.random.default_rng(6), 100, 0, []
    owner = np.repeat(np.arange(80), 3)
    pictures = rng.standard_normal((80, 16))
    captions = pictures[owner] + rng.standard_normal((240, 16))
    best = (normalize(pictures) @ normalize(captions).T).argmax(axis=1)
    relevant = owner[None, :] == np.arange(80)[:, None]
    assert metrics.retrieval_over_chance(relevant[np.arange(80), best], relevance(relevant))[1] > 0.5
    for _ in range(runs):
        shuffled = rng.permutation(owner)[None, :] == np.arange(80)[:, None]
        value, low, high = metrics.retrieval_over_chance(shuffled[np.arange(80), best], relevance(shuffled))
        assert low <= value <= high
        values.append(value)
        above += low > 0
    assert binomtest(above, runs, 0.025, alternative="greater").pvalue > 1e-4
    assert abs(np.mean(values)) < 3 * np.std(values) / runs**0.5


def test_predictions_are_the_nearest_classes(rng: np.random.Generator) -> None:
    images, classes = rng.standard_normal((40, 6)).astype(np.float32), normalize(rng.standard_normal((5, 6)))
    found = metrics.predicted_classes(images, classes.astype(np.float32))
    np.testing.assert_array_equal(found, cosine_similarity(images, classes).argmax(axis=1))


def test_ratio_interval(rng: np.random.Generator) -> None:
    drift = rng.uniform(1, 3, 400)
    slow = 2 * drift * rng.lognormal(0, 0.05, 400)
    fast = drift * rng.lognormal(0, 0.05, 400)
    value, low, high = metrics.ratio_interval(slow, fast)
    assert value == np.median(slow) / np.median(fast)
    assert low < 2 < high
    assert high - low < 0.6
    inverse = metrics.ratio_interval(fast, slow)
    assert inverse[0] == pytest.approx(1 / value)
    assert inverse[1:] == pytest.approx((1 / high, 1 / low))
    draw = np.random.default_rng(1)
    ratios = []
    for _ in range(3000):
        picked = draw.integers(0, 400, 400)
        ratios.append(np.median(slow[picked]) / np.median(fast[picked]))
    assert (low, high) == pytest.approx(tuple(np.percentile(ratios, [2.5, 97.5])), abs=0.02)


def test_of_classes_that_are_alike_the_first_is_the_answer() -> None:
    classes = np.tile(np.array([[1.0, 0.0]], np.float32), (4, 1))
    images = np.array([[1.0, 0.5], [0.2, 1.0], [0.3, 0.1]], np.float32)
    labels = np.array([0, 3, 1])
    assert metrics.top_k_hits(images, classes, labels, 1).tolist() == [True, False, False]
    assert metrics.top_k_hits(images, classes, labels, 2).tolist() == [True, False, True]
    assert metrics.predicted_classes(images, classes).tolist() == [0, 0, 0]


@pytest.mark.parametrize("width", [3, 64, 513])
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_equal_items_have_equal_similarities_wherever_they_stand(width: int, precision: Any) -> None:
    """A matrix product alone does not promise it: its last columns may be added up in another order."""
    rng = np.random.default_rng(width)
    different = rng.standard_normal((7, width)).astype(precision)
    places = rng.integers(0, 7, 101)
    queries = rng.standard_normal((33, width)).astype(precision)
    scores = metrics.similarity_to(different[places])(queries)
    np.testing.assert_allclose(scores, queries @ different[places].T, rtol=1e-4, atol=1e-5)
    for place in range(7):
        columns = scores[:, places == place]
        assert (columns == columns[:, :1]).all()


def test_distinct_rows_stay_in_order() -> None:
    rows = np.array([[2, 1], [0, 5], [2, 1], [1, 1], [0, 5]], np.float32)
    different, place = metrics.distinct(rows)
    assert different.tolist() == [[2, 1], [0, 5], [1, 1]]
    assert place.tolist() == [0, 1, 0, 2, 1]


def test_alike_classes_are_found_in_groups() -> None:
    classes = np.array([[1, 0], [0, 1], [1, 0], [0.5, 0.5], [0, 1], [1, 0]], np.float32)
    assert metrics.alike_classes(classes) == [[0, 2, 5], [1, 4]]
    assert metrics.alike_classes(np.eye(4, dtype=np.float32)) == []


@given(draw=st.integers(0, 10**6), classes=st.integers(2, 9), different=st.integers(1, 9), k=st.integers(1, 4))
def test_top_k_is_the_stable_sort_of_exact_scores(draw: int, classes: int, different: int, k: int) -> None:
    """By brute force in whole numbers, where nothing is rounded: ties are many, and the first class wins each."""
    rng = np.random.default_rng(draw)
    chosen = rng.integers(-2, 3, (different, 6))[rng.integers(0, different, classes)]
    pictures = np.eye(6, dtype=np.int64)[rng.integers(0, 6, 5)]
    labels = rng.integers(0, classes, 5)
    order = np.argsort(-(pictures @ chosen.T), axis=1, kind="stable")
    hits = metrics.top_k_hits(pictures.astype(np.float32), chosen.astype(np.float32), labels, k)
    assert hits.tolist() == [label in row[:k] for label, row in zip(labels, order, strict=True)]


@given(draw=st.integers(0, 10**6), items=st.integers(1, 9), different=st.integers(1, 9))
def test_ranks_are_those_of_the_stable_sort_of_exact_scores(draw: int, items: int, different: int) -> None:
    """Of four entries of 1 or -1, so that unit length is exact: equal captions tie, and the first comes first."""
    rng = np.random.default_rng(draw)
    kinds = np.zeros((different, 8), np.int64)
    for kind in kinds:
        kind[rng.permutation(8)[:4]] = rng.choice([-1, 1], 4)
    rows, queries = kinds[rng.integers(0, different, items)], kinds[rng.integers(0, different, 6)]
    wanted = rng.integers(0, 2, (6, items)).astype(bool)
    wanted[np.arange(6), rng.integers(0, items, 6)] = True
    ranks = metrics.retrieval_ranks(queries.astype(np.float32), rows.astype(np.float32), relevance(wanted))
    order = np.argsort(-(queries @ rows.T), axis=1, kind="stable")
    assert ranks.tolist() == [int(np.flatnonzero(own[row])[0]) for own, row in zip(wanted, order, strict=True)]
