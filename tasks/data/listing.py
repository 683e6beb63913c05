"""The table of a folder data set (captions, labels, or Hugging Face's metadata), found, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from artifacts.errors import DataError, DataNotFound
from tasks.data.rows import SUFFIXES, Row, Table, read_table

_LABEL = "label"


@dataclass(frozen=True)
class Entry:
    """A checked row: where it stands (for messages), the image's normalised relative path, its caption and class."""

    where: str
    file: str
    caption: str | None
    label: str | None


@dataclass(frozen=True)
class _Layout:
    """The columns of one kind of table: the file, the caption (the first that exists) and what it cannot lack."""

    file: str
    captions: tuple[str, ...]
    one_of: tuple[str, ...]


_LAYOUTS = {
    "captions": _Layout("file", ("caption",), ("caption",)),
    "labels": _Layout("file", ("caption",), (_LABEL,)),
    "metadata": _Layout("file_name", ("caption", "text"), ("caption", "text", _LABEL)),
}
TABLE_NAMES = tuple(f"{stem}{suffix}" for stem in _LAYOUTS for suffix in SUFFIXES)


def find_listing(folder: Path) -> Path:
    """The one table of a folder.

    Raises:
        DataNotFound: the folder does not exist or holds no table.
        DataError: it holds several.
    """
    if not folder.is_dir():
        raise DataNotFound("no such folder", where=folder, expected="a folder of images", fix="check the path")
    found = [name for name in TABLE_NAMES if (folder / name).is_file()]
    if not found:
        raise DataNotFound(
            "the folder has no table of captions or labels",
            where=folder,
            expected=f"one of {', '.join(TABLE_NAMES)}",
            fix="write captions.csv with the columns file and caption",
        )
    if len(found) > 1:
        raise DataError(
            f"the folder has several tables: {', '.join(found)}",
            where=folder,
            expected="exactly one",
            fix="keep one; a captions table may have a label column too",
        )
    return folder / found[0]


def read_listing(path: Path) -> tuple[Entry, ...]:
    """Every row of a table, checked; of rows that say the same the first. White space around a label is no part of it.

    Raises:
        DataError: a missing column, an empty or malformed value, a path that is not plain and relative, a file with two
            labels; names the line or row.
    """
    layout = _LAYOUTS[path.stem]
    table = read_table(path, {layout.file, *layout.captions, _LABEL})
    _check_columns(table, layout, path)
    caption = next((name for name in layout.captions if name in table.columns), None)
    label = _LABEL if _LABEL in table.columns else None
    entries = tuple(
        Entry(
            row.where,
            _plain_path(row, layout.file),
            _optional(row, caption),
            (_optional(row, label) or "").strip() or None,
        )
        for row in table.rows
    )
    return _without_repeats(entries)


def _check_columns(table: Table, layout: _Layout, path: Path) -> None:
    missing = [] if layout.file in table.columns else [layout.file]
    if not set(layout.one_of) & set(table.columns):
        missing.append(" or ".join(layout.one_of))
    if missing and table.columns:  # an empty JSON Lines file has no columns; it is an empty set
        raise DataError(
            f"missing column: {', '.join(missing)}",
            where=path,
            expected=f"the columns {layout.file} and {' or '.join(layout.one_of)}, found {', '.join(table.columns)}",
            fix="rename or add the column",
        )


def _optional(row: Row, column: str | None) -> str | None:
    return None if column is None else _text(row, column)


def _text(row: Row, column: str) -> str:
    value = row.values.get(column, "")
    if not isinstance(value, str) or not _is_unicode(value):
        raise DataError(f"{column} is {value!r}", where=row.where, expected="a Unicode string", fix="correct the value")
    if not value.strip():
        raise DataError(
            f"empty {column}", where=row.where, expected=f"a {column} in every row", fix="fill it in or remove the row"
        )
    return value


def _is_unicode(value: str) -> bool:
    """Whether a string can be written as UTF-8: JSON can spell lone surrogates, which cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _plain_path(row: Row, column: str) -> str:
    text = _text(row, column)
    pure = PurePosixPath(text)
    if pure.is_absolute() or ".." in pure.parts or "\0" in text:
        raise DataError(
            f"{text!r} is not a plain relative path",
            where=row.where,
            expected="a path relative to the folder, without ..",
            fix="move the image into the folder and name it relative to that",
        )
    return str(pure)


def _without_repeats(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """A file may come again with another caption (COCO has five per image), but always with the same label."""
    first_of_file: dict[str, Entry] = {}
    kept: dict[tuple[str, str | None], Entry] = {}
    for entry in entries:
        peer = first_of_file.setdefault(entry.file, entry)
        if peer.label != entry.label:
            raise DataError(
                f"{entry.file!r} has two labels, {peer.label!r} and {entry.label!r}",
                where=f"{peer.where} and {entry.where}",
                expected="rows of one file that agree in their label",
                fix="remove one of the rows",
            )
        kept.setdefault((entry.file, entry.caption), entry)
    return tuple(kept.values())
