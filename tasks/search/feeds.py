"""An encoder's inputs, batch by batch, for one recipe after the other: in memory of a fixed size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

Feed = tuple[list[Any], Mapping[str, NDArray[Any]]]
"""A batch of inputs with what its rows are: sample indices (image) or texts (text)."""
KEPT_BYTES = 512 * 2**20
"""What all batches may take to be kept for the next time: 890 pictures of 224 x 224."""


class Feeds:
    """Batches that `make` brings, to be gone through again and again.

    A set that is small enough is kept from its first whole pass on; every pass over a larger one makes it again.
    """

    def __init__(self, make: Callable[[], Iterator[Feed]]) -> None:
        self._make = make
        self._kept: list[Feed] | None = None

    def __iter__(self) -> Iterator[Feed]:
        if self._kept is not None:
            yield from self._kept
            return
        seen: list[Feed] = []
        room = KEPT_BYTES
        for feed in self._make():
            room -= sum(array.nbytes for array in feed[1].values())
            if room >= 0:
                seen.append(feed)
            else:
                seen.clear()
            yield feed
        if room >= 0:
            self._kept = seen
