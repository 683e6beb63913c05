"""An encoder's inputs, batch by batch, for many recipes one after the other, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

Feed = tuple[list[Any], Mapping[str, NDArray[Any]]]
"""The keys of a batch's rows, sample indices (image) or texts (text), and its inputs."""
KEPT_BYTES = 512 * 2**20
"""The most bytes of batches that are kept in memory for the next pass: 890 pictures of 224 x 224."""


class Feeds:
    """The batches of `make`, which can be iterated repeatedly.

    A set that is small enough is kept in memory after its first complete pass; a larger one is made again in each pass.
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
