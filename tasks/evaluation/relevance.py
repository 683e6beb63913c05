"""Which items answer which queries, stored as pairs: for 50,000 pictures and their captions a dense table has 12 GB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Relevance:
    """`pairs` (p, 2) of int64 are query and item, each pair once, sorted by query; `shape` is (queries, items)."""

    pairs: NDArray[np.int64]
    shape: tuple[int, int]

    @property
    def share(self) -> float:
        """The share of all (query, item) pairs that are relevant."""
        return len(self.pairs) / (self.shape[0] * self.shape[1])

    @property
    def swapped(self) -> Relevance:
        """The same relation with items as queries."""
        pairs = self.pairs[:, ::-1]
        return Relevance(pairs[np.argsort(pairs[:, 0], kind="stable")], self.shape[::-1])

    def rows(self, start: int, count: int) -> NDArray[np.bool_]:
        """Rows of the dense table for up to `count` queries from `start`: (count, items)."""
        stop = min(start + count, self.shape[0])
        first, last = np.searchsorted(self.pairs[:, 0], (start, stop))
        found = np.zeros((stop - start, self.shape[1]), dtype=bool)
        found[self.pairs[first:last, 0] - start, self.pairs[first:last, 1]] = True
        return found

    def items(self, query: int) -> NDArray[np.int64]:
        """The relevant items of a query, sorted."""
        first, last = np.searchsorted(self.pairs[:, 0], (query, query + 1))
        return np.sort(self.pairs[first:last, 1])
