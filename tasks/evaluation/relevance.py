"""Which items answer which queries, as pairs: of 50,000 pictures and their captions a whole table would be 12 GB."""

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
        """How much of the whole table is relevant."""
        return len(self.pairs) / (self.shape[0] * self.shape[1])

    @property
    def swapped(self) -> Relevance:
        """The same with items as queries."""
        pairs = self.pairs[:, ::-1]
        return Relevance(pairs[np.argsort(pairs[:, 0], kind="stable")], self.shape[::-1])

    def rows(self, start: int, count: int) -> NDArray[np.bool_]:
        """The table's rows of `count` queries from `start` on, or up to the last: (count, items)."""
        stop = min(start + count, self.shape[0])
        first, last = np.searchsorted(self.pairs[:, 0], (start, stop))
        found = np.zeros((stop - start, self.shape[1]), dtype=bool)
        found[self.pairs[first:last, 0] - start, self.pairs[first:last, 1]] = True
        return found

    def items(self, query: int) -> NDArray[np.int64]:
        """The relevant ones, in order."""
        first, last = np.searchsorted(self.pairs[:, 0], (query, query + 1))
        return np.sort(self.pairs[first:last, 1])
