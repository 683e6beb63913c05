"""Accuracy metrics on embeddings: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.relevance import Relevance

Array = NDArray[np.float32]
_Float = TypeVar("_Float", np.float32, np.float64)
_RESAMPLES = 10_000
_SEED = 20_240_229
_QUERIES = 512  # queries per batch of similarities, or fewer:
_SIMILARITIES = 1 << 24  # similarities per batch at most: 64 MB


def normalise(rows: NDArray[_Float]) -> NDArray[_Float]:
    """Rows (n, d) scaled to unit length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cosine(first: Array, second: Array) -> NDArray[np.float64]:
    """Cosine similarity row by row, (n,)."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    return np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def snr_db(reference: Array, other: Array) -> float | None:
    """10 log10(|reference|^2 / |reference - other|^2) over all elements, in dB; None when they are equal."""
    noise = float(np.sum((reference.astype(np.float64) - other) ** 2))
    return None if noise == 0 else 10 * float(np.log10(np.sum(reference.astype(np.float64) ** 2) / noise))


def distinct(rows: NDArray[_Float]) -> tuple[NDArray[_Float], NDArray[np.int64]]:
    """The different rows of `rows` (n, d) in order of appearance, (m, d), and each row's index among them, (n,)."""
    whole = np.ascontiguousarray(rows)
    keys = whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1])))[:, 0]
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return whole[first[order]], np.argsort(order)[place]


def similarity_to(items: NDArray[_Float]) -> Callable[[NDArray[_Float]], NDArray[_Float]]:
    """A function that maps queries (q, d) to their dot products with `items` (n, d), (q, n).

    Equal items get equal products, bit for bit. A plain matrix product does not guarantee that: it may sum its last
    columns in another order, and rounding would decide which of two equal answers comes first.
    """
    different, place = distinct(items)
    if len(different) == len(items):
        return lambda queries: queries @ items.T
    return lambda queries: (queries @ different.T)[:, place]


def class_embeddings(prompts: Array, classes: int) -> Array:
    """Prompt ensembling (Radford et al. 2021, section 3.1.4): mean of normalised prompt embeddings, normalised again.

    `prompts` is (classes * templates, d), class by class; the result (classes, d).
    """
    grouped = normalise(prompts).reshape(classes, -1, prompts.shape[1])
    return normalise(grouped.mean(axis=1))


def top_k_hits(images: Array, classes: Array, labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether the right class is among the k most similar, per image, (n,).

    Among equally similar classes the first wins, as in argmax.
    """
    similarity, places = similarity_to(classes), np.arange(len(classes))
    hits = []
    for start in range(0, len(images), _QUERIES):
        scores = similarity(normalise(images[start : start + _QUERIES]))
        right = labels[start : start + _QUERIES, None]
        reached = np.take_along_axis(scores, right, axis=1)
        before = (scores > reached) | ((scores == reached) & (places < right))
        hits.append(before.sum(axis=1) < k)
    return np.concatenate(hits)


def retrieval_ranks(queries: Array, items: Array, relevant: Relevance) -> NDArray[np.int64]:
    """How many items rank before the first relevant one, per query, (n,); each query has at least one relevant item.

    A rank below k is a hit of recall@k: one found item is enough, as in CLIP_benchmark. Equally similar items keep
    their order, as in a stable sort.
    """
    similarity, places = similarity_to(normalise(items)), np.arange(len(items))
    ranks = []
    size = max(1, min(_QUERIES, _SIMILARITIES // len(items)))
    for start in range(0, len(queries), size):
        scores = similarity(normalise(queries[start : start + size]))
        best = np.where(relevant.rows(start, size), scores, -np.inf).argmax(axis=1)[:, None]
        reached = np.take_along_axis(scores, best, axis=1)
        ranks.append((scores > reached).sum(axis=1) + ((scores == reached) & (places < best)).sum(axis=1))
    return np.concatenate(ranks)


def predicted_classes(images: Array, classes: Array) -> NDArray[np.int64]:
    """The most similar class of each image, (n,); the first of equally similar ones."""
    similarity = similarity_to(classes)
    parts = [images[start : start + _QUERIES] for start in range(0, len(images), _QUERIES)]
    return np.concatenate([similarity(normalise(part)).argmax(axis=1) for part in parts]).astype(np.int64)


def alike_classes(classes: Array) -> list[list[int]]:
    """Groups of classes whose embeddings are equal: no answer can distinguish the classes of a group."""
    place = distinct(classes)[1]
    return [np.flatnonzero(place == shared).tolist() for shared in np.flatnonzero(np.bincount(place) > 1)]


def class_recall(hits: NDArray[np.bool_], labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """The share of each class's samples that are hits, (classes,); NaN for a class without samples."""
    counts = np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore"):
        return np.bincount(labels, weights=hits, minlength=classes) / counts


def paired_difference(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    groups: NDArray[np.int64] | None = None,
    *,
    identical: bool = False,
) -> tuple[float, float, float]:
    """mean(first) - mean(second) over the same samples, and its 95 % percentile bootstrap interval (Efron 1979).

    Returns (difference, low, high). Resampling pairs of 0/1 outcomes with replacement is the same as drawing counts of
    the differences -1, 0, +1. They are drawn with half a sample added to each cell of the 2 x 2 table (Agresti and Min
    2005), because with few or no differing samples the plain bootstrap gives far too narrow intervals. Only `identical`
    embeddings, which agree on any sample, give an interval of 0 to 0.

    Samples of one group in `groups` (n,) depend on each other, and are drawn together (a cluster bootstrap, Davison and
    Hinkley 1997, section 3.8); then groups of average size are added to the table instead of samples.
    """
    if identical:
        return 0.0, 0.0, 0.0
    rng, value = np.random.default_rng(_SEED), float(first.mean() - second.mean())
    if groups is None:
        n = len(first)
        return _with_interval(value, rng.multinomial(n, _smoothed(first, second), size=_RESAMPLES) @ _SIGNS / n)
    sizes, changes = _by_group(first, second, groups)
    kinds, counts = np.unique(np.stack([sizes, changes], axis=1), axis=0, return_counts=True)
    kinds = np.concatenate([kinds, sizes.mean() * np.stack([np.ones(3), _SIGNS], axis=1)])
    shares = np.concatenate([counts, _HALF_EACH])
    drawn = rng.multinomial(len(sizes), shares / shares.sum(), size=_RESAMPLES)
    return _with_interval(value, (drawn @ kinds[:, 1]) / (drawn @ kinds[:, 0]))


def class_recall_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], labels: NDArray[np.int64], *, identical: bool = False
) -> tuple[float, float, float]:
    """The difference of two mean per-class recalls, and its interval: see `paired_difference`.

    Samples are drawn within their class, so that no class is ever empty; the half samples that are added to the table
    are divided among the classes.
    """
    if identical:
        return 0.0, 0.0, 0.0
    rng, present = np.random.default_rng(_SEED), np.unique(labels)
    means, value = np.zeros(_RESAMPLES), 0.0
    for label in present:
        one, other = first[labels == label], second[labels == label]
        shares = _smoothed(one, other, 1 / len(present))
        means += rng.multinomial(len(one), shares, size=_RESAMPLES) @ _SIGNS / len(one)
        value += one.mean() - other.mean()
    return _with_interval(float(value / len(present)), means / len(present))


def mcnemar_p(first: NDArray[np.bool_], second: NDArray[np.bool_], groups: NDArray[np.int64] | None = None) -> float:
    """The p-value of McNemar's exact test (1947): how likely differing pairs split so unevenly if neither is better.

    Samples of one group in `groups` (n,) change together: then it is the exact permutation test of clustered pairs, in
    which each group's net change is equally likely to have either sign. For groups of one sample both tests are equal.
    """
    if groups is not None:
        return _sign_flip_p(_by_group(first, second, groups)[1])
    lost, _, won = (int(count) for count in _counts(first, second))
    pairs = lost + won
    tail = ways = 1
    for count in range(min(lost, won)):
        ways = ways * (pairs - count) // (count + 1)  # the binomial coefficient of the next count
        tail += ways
    return min(1.0, float(Fraction(2 * tail, 2**pairs)))


def over_chance(
    hits: NDArray[np.bool_], predicted: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[float, float, float]:
    """How far top-1 is above chance: (value, low, high), with the exact 95 % interval (Clopper and Pearson 1934).

    Chance is taken as known. It is the average score of the same predictions on shuffled labels: the sum over classes
    of the share of labels times the share of predictions, as in Cohen's kappa.
    """
    n, classes = len(labels), int(max(labels.max(), predicted.max())) + 1
    chance = float(np.bincount(labels, minlength=classes) @ np.bincount(predicted, minlength=classes)) / n**2
    return _share_over(hits, chance)


def retrieval_over_chance(hits: NDArray[np.bool_], relevant: Relevance) -> tuple[float, float, float]:
    """How far recall@1 is above chance: (value, low, high), with the exact 95 % interval of the recall.

    Chance is the average score of any ranking after shuffling the pairs: the mean share of relevant items. Queries are
    treated as independent, which holds for pictures that have captions of their own.
    """
    return _share_over(hits, relevant.share)


def _share_over(hits: NDArray[np.bool_], chance: float) -> tuple[float, float, float]:
    from scipy.stats import binomtest

    ends = binomtest(int(hits.sum()), len(hits)).proportion_ci()
    return float(hits.mean()) - chance, float(ends.low) - chance, float(ends.high) - chance


def _by_group(
    first: NDArray[np.bool_], second: NDArray[np.bool_], groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each group's size, and how many more of its samples are right in `first` than in `second`."""
    _, place = np.unique(groups, return_inverse=True)
    changes = np.bincount(place, weights=first.astype(np.int64) - second.astype(np.int64))
    return np.bincount(place), np.rint(changes).astype(np.int64)


def _sign_flip_p(changes: NDArray[np.int64]) -> float:
    """The probability that the sum of `changes` with random signs is at least as far from 0 as the sum itself.

    The sum of k changes of size s is s (2 B - k) with B binomial. There are few sizes, and their sums are independent,
    so the distribution of the total is computed exactly.
    """
    ways = np.ones(1)
    for size, number in zip(*np.unique(np.abs(changes[changes != 0]), return_counts=True), strict=True):
        steps = np.arange(1, number + 1)
        logs = np.concatenate([[0.0], np.cumsum(np.log((number - steps + 1) / steps))]) - number * np.log(2)
        sums = np.zeros(2 * size * number + 1)
        sums[:: 2 * size] = np.exp(logs)
        ways = np.convolve(ways, sums)
    middle = len(ways) // 2
    distance = abs(int(changes.sum()))
    return 1.0 if distance == 0 else min(1.0, 2 * float(ways[middle + distance :].sum()))


_SIGNS = np.array([-1, 0, 1])
_HALF_EACH = np.array([0.5, 1.0, 0.5])  # two of the four cells of the table are differences of 0


def _counts(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The number of samples whose outcomes differ by -1, 0 and +1."""
    return np.bincount(first.astype(np.int64) - second.astype(np.int64) + 1, minlength=3)


def _smoothed(first: NDArray[np.bool_], second: NDArray[np.bool_], part: float = 1.0) -> NDArray[np.float64]:
    """The shares of -1, 0 and +1, after adding `part` times half a sample to each cell of the 2 x 2 table."""
    counts = _counts(first, second) + part * _HALF_EACH
    return np.asarray(counts / counts.sum())


def _with_interval(value: float, means: NDArray[np.float64]) -> tuple[float, float, float]:
    low, high = np.percentile(means, [2.5, 97.5])
    return value, min(float(low), value), max(float(high), value)


def ratio_interval(slow: NDArray[np.float64], fast: NDArray[np.float64]) -> tuple[float, float, float]:
    """median(slow) / median(fast) of paired measurements (n,), and its 95 % bootstrap interval over the pairs."""
    rng = np.random.default_rng(_SEED)
    picks = rng.integers(0, len(slow), size=(_RESAMPLES, len(slow)))
    ratios = np.median(slow[picks], axis=1) / np.median(fast[picks], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(np.median(slow) / np.median(fast)), float(low), float(high)
