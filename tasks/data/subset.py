"""Which samples a limit keeps: a seeded draw, since files often list one class after the other."""

from __future__ import annotations

from collections.abc import Sequence

_SEED = 0


def subset(total: int, limit: int | None, seed: int = _SEED) -> list[int]:
    """`limit` of `total` places in ascending order, drawn at random but always the same; all without a limit."""
    import numpy as np

    if limit is None or limit >= total:
        return list(range(total))
    return sorted(np.random.default_rng(seed).permutation(total)[:limit].tolist())


def whole_subset(sizes: Sequence[int], limit: int | None) -> list[int]:
    """Places of groups of samples in ascending order, `limit` samples at most: the same draw, until one does not fit.

    To ask again for as many samples as were kept keeps the same groups.
    """
    import numpy as np

    if limit is None or limit >= sum(sizes):
        return list(range(len(sizes)))
    drawn = np.random.default_rng(_SEED).permutation(len(sizes))
    fitting = int((np.cumsum(np.asarray(sizes)[drawn]) <= limit).sum())
    return sorted(drawn[:fitting].tolist())
