"""Which samples a limit keeps: a seeded draw, since files often list one class after the other."""

from __future__ import annotations

_SEED = 0


def subset(total: int, limit: int | None) -> list[int]:
    """`limit` of `total` places in ascending order, drawn at random but always the same; all without a limit."""
    import numpy as np

    if limit is None or limit >= total:
        return list(range(total))
    return sorted(np.random.default_rng(_SEED).permutation(total)[:limit].tolist())
