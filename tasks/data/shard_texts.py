"""The texts in a shard: a class as a number or a name, or captions, one a line."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Mapping, Sequence

from artifacts.errors import DataError

_BOMS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}")
_FLOAT = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]*)?([eE][+-]?[0-9]{1,2})?")
_SEVERAL = re.compile(r"\[?\s*[0-9.]+(\s*[\s,;]\s*[0-9.]+)+\s*\]?")


def places_of(names: Sequence[str]) -> dict[str, int | None]:
    """The class number of each name (in one Unicode form); None for a name of several classes. Classes without a name
    are left out."""
    found: dict[str, int | None] = {}
    for place, name in enumerate(names):
        composed = unicodedata.normalize("NFC", name)
        found[composed] = None if composed in found else place
    found.pop("", None)
    return found


def read_class(data: bytes, where: str, names: Mapping[str, int | None]) -> int:
    """Parse a class: a whole number, a whole number written as a float (`3.0`), or a name in `names` (see `places_of`).

    The range of numbers is not checked.

    Raises:
        DataError: it is none of these, several classes, or a name of two classes.
    """
    text = data.decode("utf-8-sig", errors="replace").strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and float(text).is_integer():
        return int(float(text))
    name = unicodedata.normalize("NFC", text)
    if (found := names.get(name)) is not None:
        return found
    if name in names:
        what, fix = f"two classes have the name {text[:40]!r}", "write the number of the class in place of its name"
    elif _SEVERAL.fullmatch(text):
        what = f"{text[:40]!r} is not a class but several, as a multi-label set has them"
        fix = "use a data set with one class to a picture"
    else:
        what, fix = f"{text[:40]!r} is not a class", "correct it, or add the name to classnames.txt"
    raise DataError(what, where=where, expected="a whole number from 0 on, or a name of classnames.txt", fix=fix)


def read_captions(data: bytes, where: str) -> tuple[str, ...]:
    """The different captions, one a line. Blank lines at the end are ignored, so the result may be empty.

    Raises:
        DataError: invalid UTF-8, or a blank line before a caption; the message names the line.
    """
    lines = _utf8(data, where).splitlines()
    while lines and not lines[-1].strip():
        del lines[-1]
    empty = next((number for number, line in enumerate(lines, start=1) if not line.strip()), None)
    if empty is not None:
        raise DataError(
            "an empty caption", where=f"{where}, line {empty}", expected="a caption a line", fix="remove the line"
        )
    once: dict[str, str] = {}
    for line in lines:
        once.setdefault(line.strip(), line)
    return tuple(once.values())


def _utf8(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = next((name for mark, name in _BOMS.items() if data.startswith(mark)), None)
        shown = data.decode(encoding or "cp1252", errors="replace")[:40]
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"invalid UTF-8: byte 0x{data[error.start]:02x}; as {encoding or 'Latin-1'} it reads {shown!r}",
            where=f"{where}, line {line}",
            expected="captions in UTF-8",
            fix=f"write the shard again with its texts in UTF-8: iconv -f {(encoding or 'latin1').lower()} -t utf-8",
        ) from error
