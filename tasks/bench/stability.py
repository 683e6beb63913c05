"""Are embeddings bit-identical when the same inputs are run again, or run in other batches?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tasks.bench.embedded import Embedder

BATCH = 32
"""Samples per call, as in evaluation on the CPU."""
_OTHER_BATCH = 8
_REPEATS = 5
_SAMPLES = 512
"""The most samples that are compared: more would show nothing new, and take as long as the accuracy itself."""
AGAIN = "the same batches again"
MOVED = "other places in the batch"
SMALLER = f"batches of {_OTHER_BATCH} for {BATCH}"


@dataclass(frozen=True)
class Stability:
    """One encoder's embeddings of repeated runs, compared element by element with its first run in batches of 32.

    `runs` is the number of runs compared with the first; `differing` of `elements` differ in at least one of them, by
    `max_abs` at most. Only `the same batches again` is expected to be bit-identical: for another batch size another
    kernel may be chosen, which sums in another order.
    """

    encoder: str
    target: str
    precision: str
    compared: str
    runs: int
    elements: int
    differing: int
    max_abs: float


def stability(
    name: tuple[str, str, str], embed: Embedder, feed: Mapping[str, NDArray[Any]], first: NDArray[np.float32]
) -> Iterator[Stability]:
    """Run again and compare; `name` is (encoder, target, precision), `first` (n, d) the scored embeddings of `feed`."""
    feed, first = {port: array[:_SAMPLES] for port, array in feed.items()}, first[:_SAMPLES]
    yield _compared(name, AGAIN, first, [embed(feed, BATCH) for _ in range(_REPEATS)])
    backwards = {port: array[::-1] for port, array in feed.items()}
    yield _compared(name, MOVED, first, [embed(backwards, BATCH)[::-1]])
    yield _compared(name, SMALLER, first, [embed(feed, _OTHER_BATCH)])


def _compared(
    name: tuple[str, str, str], how: str, first: NDArray[np.float32], others: Sequence[NDArray[np.float32]]
) -> Stability:
    bits = first.view(np.uint32)
    differing = np.zeros(first.shape, bool)
    largest = 0.0
    for other in others:
        differing |= np.ascontiguousarray(other).view(np.uint32) != bits
        largest = max(largest, float(np.abs(other - first).max()))
    return Stability(*name, how, len(others), first.size, int(differing.sum()), largest)
