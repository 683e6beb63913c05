"""The time limit of steps in the current run, for steps that work in their own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_limit: ContextVar[float | None] = ContextVar("step_limit", default=None)


@contextmanager
def step_limit(seconds: float) -> Iterator[None]:
    """Limit each step inside the block to `seconds`."""
    token = _limit.set(seconds)
    try:
        yield
    finally:
        _limit.reset(token)


def step_limit_s() -> float | None:
    """The seconds that a step may take; None if no limit is set."""
    return _limit.get()
