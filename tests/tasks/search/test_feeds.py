"""Inputs that are gone through again: kept where they are small, made again where they are not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tasks.search import feeds
from tasks.search.feeds import Feed, Feeds

BATCHES, FLOATS = 3, 4


class Source:
    """Three batches, and how often each pass over them began and how many were made."""

    def __init__(self) -> None:
        self.begun = self.made = 0

    def __call__(self) -> Iterator[Feed]:
        self.begun += 1
        for number in range(BATCHES):
            self.made += 1
            yield [number], {"x": np.full(FLOATS, number, np.float32)}


@pytest.fixture
def source() -> Source:
    return Source()


def values(found: Feeds) -> list[tuple[int, float]]:
    return [(keys[0], float(inputs["x"].sum())) for keys, inputs in found]


WHOLE = [(number, float(FLOATS * number)) for number in range(BATCHES)]


def test_a_small_set_is_made_once(source: Source) -> None:
    found = Feeds(source)
    assert source.begun == 0
    assert values(found) == values(found) == WHOLE
    assert source.begun == 1


@pytest.mark.parametrize(("spare", "passes"), [(0, 1), (-1, 2)])
def test_a_set_beyond_the_limit_is_made_again(
    spare: int, passes: int, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At exactly the limit it is kept; with a byte more it is not."""
    monkeypatch.setattr(feeds, "KEPT_BYTES", BATCHES * FLOATS * 4 + spare)
    found = Feeds(source)
    assert values(found) == values(found) == WHOLE
    assert (source.begun, source.made) == (passes, passes * BATCHES)


def test_nothing_of_a_set_beyond_the_limit_stays(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    monkeypatch.setattr(feeds, "KEPT_BYTES", FLOATS * 4)
    seen = []
    for _, inputs in Feeds(source):
        seen.append(weakref.ref(inputs["x"]))
        del inputs
        gc.collect()
        alive = [array() is not None for array in seen]
        assert alive[:-2] == [False] * len(alive[:-2]), "what was kept is let go of with the first batch too much"


def test_a_pass_that_is_broken_off_is_not_taken_for_the_whole(source: Source) -> None:
    found = Feeds(source)
    next(iter(found))
    assert values(found) == WHOLE
    assert source.begun == 2


def test_passes_side_by_side_do_not_meet(source: Source) -> None:
    found = Feeds(source)
    one, other = iter(found), iter(found)
    assert [next(one)[0], next(other)[0], next(one)[0]] == [[0], [0], [1]]
    assert [keys[0] for keys, _ in other] == [1, 2]
    assert values(found) == WHOLE
