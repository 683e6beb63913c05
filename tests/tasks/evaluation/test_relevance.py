"""Pairs against the table that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.evaluation.relevance import Relevance


def relevance(table: NDArray[np.bool_]) -> Relevance:
    """The pairs of a whole table."""
    return Relevance(np.argwhere(table), (len(table), table.shape[1]))


@pytest.mark.parametrize("shape", [(23, 9), (4, 40), (1, 1)])
def test_pairs_say_what_the_table_says(shape: tuple[int, int]) -> None:
    table = np.random.default_rng(shape[0]).random(shape) < 0.3
    table[-1] = False  # a query without answers
    table[0, -1] = True
    for dense, made in ((table, relevance(table)), (table.T, relevance(table).swapped)):
        assert made.shape == dense.shape and made.share == dense.mean()
        for start in range(len(dense)):
            np.testing.assert_array_equal(made.rows(start, 5), dense[start : start + 5])
            np.testing.assert_array_equal(made.items(start), np.flatnonzero(dense[start]))
