"""Metrics against scikit-learn, brute force, and a bootstrap written the slow way."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity, paired_cosine_distances
from sklearn.preprocessing import normalize

from tasks import metrics


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
    hits = metrics.retrieval_hits(queries, items, relevant, k)
    for row, query in enumerate(queries):
        ranked = sorted(range(30), key=lambda i: -float(cosine_similarity(query[None], items[i][None])[0, 0]))
        assert hits[row] == any(relevant[row, i] for i in ranked[:k])
    assert 0 < hits.mean() < 1


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
    """Equal outcomes have no uncertainty in their difference, however uncertain each is."""
    outcome = rng.random(100) < 0.5
    assert metrics.paired_difference(outcome, outcome) == (0, 0, 0)
    _, low, high = metrics.paired_difference(outcome, rng.permutation(outcome))
    assert high - low > 0.1


def test_paired_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(8)
    truth, covered, runs = 0.15, 0, 200
    for _ in range(runs):
        drawn = rng.random(300)
        # correct in both 60 %, first alone 25 %, second alone 10 %, neither 5 %
        first = drawn < 0.85
        second = (drawn < 0.6) | ((drawn >= 0.85) & (drawn < 0.95))
        _, low, high = metrics.paired_difference(first, second)
        covered += low <= truth <= high
    assert 0.90 <= covered / runs <= 0.99


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


def test_ties_count_against_a_classifier_that_cannot_tell_classes_apart() -> None:
    classes = np.tile(np.array([[1.0, 0.0]], np.float32), (4, 1))
    images = np.array([[1.0, 0.5], [0.2, 1.0]], np.float32)
    assert not metrics.top_k_hits(images, classes, np.array([0, 3]), 1).any()
