"""Carries the step limit of the run that is going on here to steps that work in a process of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_limit: ContextVar[float | None] = ContextVar("step_limit", default=None)


@contextmanager
def step_limit(seconds: float) -> Iterator[None]:
    """Let each step within the block take so many seconds."""
    token = _limit.set(seconds)
    try:
        yield
    finally:
        _limit.reset(token)


def step_limit_s() -> float | None:
    """The seconds that a step may take; None where nobody has set a limit."""
    return _limit.get()
