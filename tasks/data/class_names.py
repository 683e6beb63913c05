"""The classes that a data set's own labels make: each label one class, and none that reads like another."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from artifacts.errors import DataError


def classes_of(labels: Iterable[str], where: object) -> tuple[str, ...]:
    """The different labels, sorted.

    Raises:
        DataError: two of them differ only in case, Unicode form or white space: hardly two classes, and for most
            tokenizers one text.
    """
    names = tuple(sorted(set(labels)))
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(_read_aloud(name), name)
        if other != name:
            raise DataError(
                f"the labels {other!r} and {name!r} differ only in case, Unicode form or white space",
                where=where,
                expected="one spelling for each class",
                fix="write both alike, or give two classes two names",
            )
    return names


def _read_aloud(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())
