"""Calls at once: how many, in which order they come back, what they see; what becomes of the rest when one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

import pytest

from flows.side_by_side import begun, side_by_side

_seen: ContextVar[str] = ContextVar("seen", default="nothing")


def test_results_are_in_the_order_of_the_items_and_not_of_their_ends() -> None:
    def call(number: int) -> int:
        time.sleep((3 - number) * 0.05)
        return number

    assert list(side_by_side(call, range(4), 4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("at_once", [1, 3])
def test_so_many_run_at_once(at_once: int) -> None:
    together = threading.Barrier(at_once)  # breaks unless so many are there together
    running, most = 0, 0
    lock = threading.Lock()

    def call(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(timeout=10)
        with lock:
            running -= 1

    assert len(list(side_by_side(call, range(2 * at_once), at_once))) == 2 * at_once
    assert most == at_once


def test_each_call_sees_the_context_of_its_caller() -> None:
    token = _seen.set("the caller's")
    try:
        assert list(side_by_side(lambda _: _seen.get(), range(3), 2)) == ["the caller's"] * 3
    finally:
        _seen.reset(token)


def test_a_failure_ends_the_rest_and_waits_for_what_has_begun() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def call(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise ValueError("the first")
        time.sleep(0.2)
        ended.append(number)

    with pytest.raises(ValueError, match="the first"):
        list(side_by_side(call, range(20), 2))
    assert sorted(begun) == [0, *sorted(ended)]
    assert len(begun) < 20


def test_a_signal_stops_what_has_begun() -> None:
    released = threading.Event()

    @contextmanager
    def stopped() -> Iterator[None]:
        released.set()
        yield

    def call(number: int) -> bool:
        if number == 0:
            raise KeyboardInterrupt
        return released.wait(20)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(call, range(2), 2, stopped))
    assert released.is_set() and time.monotonic() - started < 10


def test_an_error_stops_nothing() -> None:
    def stopped() -> AbstractContextManager[None]:
        raise AssertionError("an error is no signal")

    def call(_: int) -> None:
        raise ValueError("an error")

    with pytest.raises(ValueError, match="an error"):
        list(side_by_side(call, range(2), 2, stopped))


def test_calls_run_while_the_block_does_something_else() -> None:
    met = threading.Barrier(2)
    with begun(lambda _: met.wait(20), [1], 1) as (result,):
        met.wait(20)
        assert result.result() in (0, 1)


@pytest.mark.parametrize(("ending", "stops"), [(ValueError, False), (KeyboardInterrupt, True)])
def test_what_ends_the_block_decides_whether_calls_are_stopped(ending: type[BaseException], *, stops: bool) -> None:
    entered, release, stopped_calls = threading.Event(), threading.Event(), []
    made: list[int] = []

    @contextmanager
    def stopped() -> Iterator[None]:
        stopped_calls.append(True)
        release.set()
        yield

    def call(number: int) -> None:
        entered.set()
        release.wait(20 if stops else 0.2)
        made.append(number)

    with pytest.raises(ending), begun(call, [1, 2, 3], 1, stopped):
        entered.wait(20)
        raise ending
    assert bool(stopped_calls) == stops
    assert made == [1]  # waited for, and the others not begun
