"""Accuracy metrics on embeddings: pure functions of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
_RESAMPLES = 10_000
_SEED = 20_240_229


def normalise(rows: Array) -> Array:
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


def class_embeddings(prompts: Array, classes: int) -> Array:
    """Prompt ensembling (Radford et al. 2021, section 3.1.4): mean of normalised prompt embeddings, normalised again.

    `prompts` is (classes * templates, d), class by class; the result (classes, d).
    """
    grouped = normalise(prompts).reshape(classes, -1, prompts.shape[1])
    return normalise(grouped.mean(axis=1))


def top_k_hits(images: Array, classes: Array, labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether the right class is among the k most similar, per image, (n,); ties count against it."""
    scores = normalise(images) @ classes.T
    right = scores[np.arange(len(labels)), labels]
    return np.asarray((scores >= right[:, None]).sum(axis=1) <= k)


def retrieval_hits(queries: Array, items: Array, relevant: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
    """recall@k per query: whether any relevant item is among the k most similar; `relevant` is (queries, items).

    A query counts as soon as one of its items is found, as CLIP_benchmark does it.
    """
    scores = normalise(queries) @ normalise(items).T
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits: NDArray[np.bool_] = np.any(np.take_along_axis(relevant, top, axis=1), axis=1)
    return hits


def paired_difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float, float]:
    """mean(first) - mean(second) over the same samples with its 95 % percentile bootstrap interval (Efron 1979).

    Resampling pairs of 0/1 outcomes with replacement is drawing counts of the differences -1, 0, +1.
    """
    differences = first.astype(np.int64) - second.astype(np.int64)
    n = len(differences)
    shares = np.array([(differences == value).mean() for value in (-1, 0, 1)])
    counts = np.random.default_rng(_SEED).multinomial(n, shares, size=_RESAMPLES)
    means = (counts[:, 2] - counts[:, 0]) / n
    low, high = np.percentile(means, [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)


def ratio_interval(slow: NDArray[np.float64], fast: NDArray[np.float64]) -> tuple[float, float, float]:
    """median(slow) / median(fast) of measurements taken in pairs, with a 95 % bootstrap interval over the pairs."""
    rng = np.random.default_rng(_SEED)
    picks = rng.integers(0, len(slow), size=(_RESAMPLES, len(slow)))
    ratios = np.median(slow[picks], axis=1) / np.median(fast[picks], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(np.median(slow) / np.median(fast)), float(low), float(high)
