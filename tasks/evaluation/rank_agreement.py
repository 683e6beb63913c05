"""Whether two sets of embeddings put the same things in the same order (Spearman 1904), which is what a search shows.

Of a large set evenly spaced members stand for all: memory and time stay the same however many there are.
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
    """What is ranked: for each of the queries (q, d) the items (i, d) by their cosine similarity."""

    queries: Array
    items: Array

    def thinned(self) -> Ranked:
        """Keep at most `QUERIES` queries and `ITEMS` items."""
        return Ranked(self.queries[spaced(len(self.queries), QUERIES)], self.items[spaced(len(self.items), ITEMS)])

    def scores(self) -> Callable[[slice], NDArray[np.float64]]:
        """The function of a slice of the queries that gives their cosine similarities (q, i).

        In FP64, so that no sum of FP32 decides a rank.
        """
        similarity = similarity_to(normalise(self.items.astype(np.float64)))
        return lambda part: similarity(normalise(self.queries[part].astype(np.float64)))


def rank_agreement(first: Ranked, second: Ranked) -> float | None:
    """The mean over the queries of Spearman's correlation between the two orders of the items; None of one item.

    1 is the same order for every query, 0 what shuffling gives. Equal similarities stay in the items' order.
    """
    return _mean_spearman(first, second, np.ones((len(first.queries), len(first.items)), dtype=bool))


def neighbour_agreement(first: Array, second: Array) -> float | None:
    """As `rank_agreement`, with samples (n, d) that each rank all the others; None for two samples."""
    queries, items = spaced(len(first), QUERIES), spaced(len(first), ITEMS)
    one, other = (Ranked(rows[queries], rows[items]) for rows in (first, second))
    return _mean_spearman(one, other, queries[:, None] != items)


def spaced(count: int, most: int) -> NDArray[np.int64]:
    """The places of at most `most` of `count`, evenly spaced, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def _mean_spearman(first: Ranked, second: Ranked, counted: NDArray[np.bool_]) -> float | None:
    """`counted` (q, i) says which items a query ranks."""
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
    """0 for the most similar."""
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    return ranks
