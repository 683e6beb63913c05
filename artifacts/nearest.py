"""Suggestions for mistyped names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to `name`, or None if none is similar."""
    return next(iter(get_close_matches(name, list(known), n=1)), None)


def meant(name: str | None) -> str:
    """`did you mean ...?`, to put before another sentence; empty without a name."""
    return f"did you mean {name}? " if name else ""
