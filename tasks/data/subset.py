"""Which samples a limit keeps: a seeded random draw, as files often list one class after the other."""

from __future__ import annotations

from collections.abc import Sequence

_SEED = 0


def subset(total: int, limit: int | None, seed: int = _SEED) -> list[int]:
    """`limit` of `total` indices, sorted, drawn at random with a fixed seed; all indices without a limit."""
    import numpy as np

    if limit is None or limit >= total:
        return list(range(total))
    return sorted(np.random.default_rng(seed).permutation(total)[:limit].tolist())


def whole_subset(sizes: Sequence[int], limit: int | None) -> list[int]:
    """The indices of groups of samples, sorted, with at most `limit` samples in all: groups are drawn at random with a
    fixed seed until one does not fit. `sizes` are the groups' numbers of samples.

    A limit equal to the number of kept samples keeps the same groups.
    """
    import numpy as np

    if limit is None or limit >= sum(sizes):
        return list(range(len(sizes)))
    drawn = np.random.default_rng(_SEED).permutation(len(sizes))
    fitting = int((np.cumsum(np.asarray(sizes)[drawn]) <= limit).sum())
    return sorted(drawn[:fitting].tolist())
