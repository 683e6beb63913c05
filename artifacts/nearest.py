"""Which name was meant where one is typed that there is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like another, or None where none is like it."""
    return next(iter(get_close_matches(name, list(known), n=1)), None)


def meant(name: str | None) -> str:
    """A question that another sentence follows; empty without a name."""
    return f"did you mean {name}? " if name else ""
