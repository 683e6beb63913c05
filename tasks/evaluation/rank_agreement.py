"""Whether two sets of embeddings rank things in the same order (Spearman 1904), which is what search results show.

From a large set, evenly spaced members are taken, so that memory and time do not grow with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.metrics import Array, normalise, similarity_to

QUERIES = 1_024
ITEMS = 4_096
_AT_A_TIME = 128  # queries: 4 MB of similarities


class Ranked(NamedTuple):
    """A ranking: each query (q, d) ranks the items (i, d) by cosine similarity."""

    queries: Array
    items: Array

    def thinned(self) -> Ranked:
        """Keep at most `QUERIES` queries and `ITEMS` items."""
        return Ranked(self.queries[spaced(len(self.queries), QUERIES)], self.items[spaced(len(self.items), ITEMS)])

    def scores(self) -> Callable[[slice], NDArray[np.float64]]:
        """A function that maps a slice of the queries to their cosine similarities (q, i).

        They are computed in FP64, so that rounding of FP32 sums does not decide ranks.
        """
        similarity = similarity_to(normalise(self.items.astype(np.float64)))
        return lambda part: similarity(normalise(self.queries[part].astype(np.float64)))


def rank_agreement(first: Ranked, second: Ranked) -> float | None:
    """The mean over the queries of Spearman's correlation between the two orders of the items; None for one item.

    1 means the same order for every query; 0 is the average of random orders. Equal similarities keep the items' order.
    """
    return _mean_spearman(first, second, np.ones((len(first.queries), len(first.items)), dtype=bool))


def neighbour_agreement(first: Array, second: Array) -> float | None:
    """As `rank_agreement`, where each of the samples (n, d) ranks all the others; None for two samples."""
    queries, items = spaced(len(first), QUERIES), spaced(len(first), ITEMS)
    one, other = (Ranked(rows[queries], rows[items]) for rows in (first, second))
    return _mean_spearman(one, other, queries[:, None] != items)


def spaced(count: int, most: int) -> NDArray[np.int64]:
    """The indices of at most `most` of `count` things, evenly spaced, including the first and the last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def _mean_spearman(first: Ranked, second: Ranked, counted: NDArray[np.bool_]) -> float | None:
    """The mean of Spearman's correlation over queries; `counted` (q, i) says which items a query ranks."""
    if counted.sum(axis=1).min() < 2:
        return None
    values: list[float] = []
    first_scores, second_scores = first.scores(), second.scores()
    for start in range(0, len(counted), _AT_A_TIME):
        part = slice(start, start + _AT_A_TIME)
        rows = zip(counted[part], first_scores(part), second_scores(part), strict=True)
        values += [_spearman(one[mask], other[mask]) for mask, one, other in rows]
    return float(np.mean(values))


def _spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's correlation of two or more scores (n,), by the formula for ranks without ties."""
    n, gaps = len(first), _ranks(first) - _ranks(second)
    return 1 - 6 * int(gaps @ gaps) / (n * (n**2 - 1))


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The ranks of scores (n,); 0 for the largest."""
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    return ranks
