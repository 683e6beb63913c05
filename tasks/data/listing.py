"""The table of a folder data set (captions, labels, or Hugging Face's metadata), found, read and checked."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from artifacts.errors import DataError, DataNotFound
from tasks.data.captions import captions_of, checked_text, label_text
from tasks.data.columns import BY_NAME, CAPTIONS, IMAGES, LABELS, Chosen, pick
from tasks.data.rows import SUFFIXES, Table, read_table

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
"""Paths as most tables have them, about which nothing needs to be asked."""
_ADDRESSES = ("url", "image_url", "urls")


@dataclass(frozen=True)
class Entry:
    """A checked row: its position (for messages), the image's normalised relative path, its caption and class."""

    where: str
    file: str
    caption: str | None
    label: str | None


@dataclass(frozen=True)
class _Layout:
    """The columns of one kind of table: its name for the column of files, and which others are required."""

    file: str
    one_of: tuple[str, ...]


_LAYOUTS = {
    "captions": _Layout("file", ("caption",)),
    "labels": _Layout("file", ("label",)),
    "metadata": _Layout("file_name", ("caption", "text", "label")),
}
_STEMS = tuple(f"{stem}{suffix}" for stem in _LAYOUTS for suffix in SUFFIXES)
TABLE_NAMES = (*_STEMS, "captions.txt", "captions.json")
"""The last two are the names of Flickr8k's table and of COCO's captions."""
TABLES = f"{', '.join(f'{stem}.*' for stem in _LAYOUTS)} ({', '.join(name[1:] for name in SUFFIXES)}) or captions.json"
"""The same names in words."""


def tables_in(folder: Path) -> list[str]:
    """The names of the tables that a folder has."""
    return [name for name in TABLE_NAMES if (folder / name).is_file()]


def find_listing(folder: Path) -> Path | None:
    """The one table of a folder, or None.

    Raises:
        DataNotFound: the folder does not exist.
        DataError: it holds several.
    """
    if not folder.is_dir():
        raise DataNotFound("no such folder", where=folder, expected="a folder of images", fix="check the path")
    found = tables_in(folder)
    if len(found) > 1:
        raise DataError(
            f"the folder has several tables: {', '.join(found)}",
            where=folder,
            expected="exactly one",
            fix="keep one; a captions table may have a label column too",
        )
    return folder / found[0] if found else None


def read_listing(path: Path, chosen: Chosen = BY_NAME) -> tuple[Entry, ...]:
    """Every row of a table, checked, without repeated rows. White space around labels is removed.

    Raises:
        DataError: a missing column, an empty or malformed value, a path that is not plain and relative, a file with two
            labels; names the line or row.
    """
    layout = _LAYOUTS[path.stem]
    asked = (name.strip().casefold() for name in (chosen.image, chosen.label, chosen.caption) if name is not None)
    table = read_table(path, {*IMAGES, *LABELS, *CAPTIONS, *asked})
    image, caption, label = _columns(table, layout, path, chosen)
    return without_repeats(
        Entry(row.where, file, text, name)
        for row in table.rows
        for file in [plain_path(checked_text(row.values.get(image), image, row.where), row.where, path.parent)]
        for name in [None if label is None else label_text(row.values.get(label), label, row.where)]
        for text in ([None] if caption is None else captions_of(row.values.get(caption), caption, row.where))
    )


def _columns(table: Table, layout: _Layout, path: Path, chosen: Chosen) -> tuple[str, str | None, str | None]:
    """The columns of file, caption and label. Unless chosen, the label in a table of captions must be called `label`,
    and the caption in a table of labels `caption`."""
    files = (layout.file, *(name for name in IMAGES if name != layout.file))
    image = pick("image", files, table.columns, chosen, path)
    if image in table.pictures:
        raise DataError(
            f"the column {image} holds pictures, not the names of files",
            where=path,
            expected="a table of files, or a set of the datasets library",
            fix=f"move {path.name} into a folder of its own, and name that as a set: datasets:FOLDER",
        )
    labelled = layout.one_of == ("label",)
    caption = pick("caption", CAPTIONS[:1] if labelled else CAPTIONS, table.columns, chosen, path)
    many = labelled or (caption is None and "label" in layout.one_of)
    label = pick("label", LABELS if many else LABELS[:1], table.columns, chosen, path)
    missing = [] if image is not None else [layout.file]
    one_of = {"caption": caption, "text": caption, "label": label}
    if all(one_of[name] is None for name in layout.one_of) and not (chosen.caption or chosen.label):
        missing.append(" or ".join(layout.one_of))
    if missing and table.columns:  # an empty JSON Lines file has no columns; it is an empty set
        raise _lacking(missing, layout, table, path)
    return image or layout.file, caption, label


def _lacking(missing: Sequence[str], layout: _Layout, table: Table, path: Path) -> DataError:
    addresses = [name for name in table.columns if name.strip().casefold() in _ADDRESSES]
    fix = "rename the column, or choose it: --columns image=COLUMN,caption=COLUMN,label=COLUMN (or one of them)"
    if layout.file in missing and addresses:
        fix = f"download the pictures that {addresses[0]} names, for example with img2dataset, and give its shards"
    return DataError(
        f"missing column: {', '.join(missing)}",
        where=path,
        expected=f"the columns {layout.file} and {' or '.join(layout.one_of)}, found {', '.join(table.columns)}",
        fix=fix,
    )


def plain_path(text: str, where: str, folder: Path) -> str:
    """The path of a picture relative to the folder, in Unicode form NFC.

    Raises:
        DataError: it is a URL, leaves the folder, or cannot be a path.
    """
    if _PLAIN.fullmatch(text):
        return text
    if _ADDRESS.match(text):
        raise DataError(
            f"{text!r} is an address, not a file",
            where=where,
            expected="a path relative to the folder",
            fix="download the pictures and name their files",
        )
    pure = PurePosixPath(text)
    if pure.is_absolute() and pure.is_relative_to(folder):
        pure = pure.relative_to(folder)
    parts = {*pure.parts, *text.split("\\")}
    if pure.is_absolute() or _DRIVE.match(text) or ".." in parts or "\0" in text:
        raise DataError(
            f"{text!r} is not a plain relative path",
            where=where,
            expected="a path relative to the folder, without ..",
            fix="move the image into the folder and name it relative to that",
        )
    return unicodedata.normalize("NFC", str(pure))


def without_repeats(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries without repetitions. A file may occur again with another caption (COCO has five per image), but only
    with the same label.

    Raises:
        DataError: a file with two labels.
    """
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
