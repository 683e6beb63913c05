"""The captions that one cell of a table holds: a text, a list of texts, or a list of records that have one each."""

from __future__ import annotations

from typing import Any

from artifacts.errors import DataError
from tasks.data import limits

TEXT_KEYS = ("raw", "caption", "text", "sentence", "txt")
"""The keys under which records hold their text: Karpathy's splits of COCO and Flickr30k have
`sentences: [{raw: ...}]`."""
_MISSING_CAPTIONS = frozenset({"nan", "<na>", "none", "null"})
_MISSING_LABELS = frozenset({"nan", "<na>"})


def captions_of(value: Any, column: str, where: str) -> list[str]:
    """The different captions of a cell, in order.

    Raises:
        DataError: there is no caption, or one is empty, not valid Unicode, or a missing value written as text.
    """
    texts = _texts(value)
    if not texts:
        raise _empty(column, where)
    if len(texts) > limits.CAPTIONS:
        raise _too_long(f"{column} holds {len(texts):,} texts", where, f"at most {limits.CAPTIONS:,}")
    return list(dict.fromkeys(checked_text(text, column, where, _MISSING_CAPTIONS) for text in texts))


def label_text(value: Any, column: str, where: str) -> str:
    """A label without the white space around it; a number as its digits.

    Raises:
        DataError: it is empty, neither a text nor a number, or a missing value written as text.
    """
    if isinstance(value, float) and value.is_integer():  # whole numbers in a column with missing values
        value = int(value)
    if isinstance(value, int):
        return str(int(value))
    return checked_text(value, column, where, _MISSING_LABELS).strip()


def checked_text(value: Any, column: str, where: str, missing: frozenset[str] = frozenset()) -> str:
    """A cell that must be a text, without outer white space.

    Raises:
        DataError: it is empty, not a text, not valid Unicode, or one of the `missing` words.
    """
    if value is None or (isinstance(value, float) and value != value):  # NaN, which pandas writes for missing values
        raise _empty(column, where)
    if not isinstance(value, str) or not is_unicode(value):
        raise DataError(f"{column} is {value!r:.80}", where=where, expected="a Unicode string", fix="correct the value")
    if len(value) > limits.TEXT_BYTES:
        raise _too_long(f"{column} has {len(value):,} characters", where, f"at most {limits.TEXT_BYTES:,}")
    if not value.strip():
        raise _empty(column, where)
    if value.strip().casefold() in missing:
        raise DataError(
            f"{column} is {value!r}, a missing value written as text",
            where=where,
            expected=f"{column} in every row",
            fix="fill it in or remove the row",
        )
    return value


def _texts(value: Any) -> list[Any]:
    if isinstance(value, dict):  # older versions of `datasets` store a sequence of records as a record of lists
        key = next((key for key in TEXT_KEYS if key in value), None)
        return [value] if key is None else _texts(value[key])
    if isinstance(value, list | tuple):
        return [text for each in value for text in (_texts(each) or [None])]
    return [] if value is None else [value]


def _empty(column: str, where: str) -> DataError:
    return DataError(
        f"empty {column}", where=where, expected=f"{column} in every row", fix="fill it in or remove the row"
    )


def _too_long(what: str, where: str, expected: str) -> DataError:
    return DataError(what, where=where, expected=expected, fix="shorten it or remove the row")


def is_unicode(value: str) -> bool:
    """Whether a string can be written as UTF-8: JSON can spell lone surrogates, which cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
