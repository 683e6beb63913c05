"""Rank agreement the slow way: SciPy's correlation, row by row."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics.pairwise import cosine_similarity


def mean_spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Of scores (queries, items), on average over the queries."""
    return float(np.mean([spearmanr(*rows).statistic for rows in zip(first, second, strict=True)]))


def neighbours_spearman(*sides: np.ndarray) -> float:
    """Of embeddings (n, d) twice: each row's similarities to the others."""
    n = len(sides[0])
    others = ~np.eye(n, dtype=bool)
    return mean_spearman(*(cosine_similarity(rows.astype(float))[others].reshape(n, n - 1) for rows in sides))
