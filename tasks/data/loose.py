"""A folder of pictures without a table: a folder for each class, or a text beside each picture."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from artifacts.errors import DataError, DataNotFound
from tasks.data import limits
from tasks.data.captions import captions_of
from tasks.data.listing import TABLES, Entry, tables_in, without_repeats
from tasks.data.rows import SUFFIXES, read_utf8

_PICTURES = frozenset(
    (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
_SPLITS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"))
_NUMBERS = re.compile(r"[-+0-9.eE\s]+")
_HIDDEN = (".", "__MACOSX")


@dataclass(frozen=True)
class Loose:
    """The content of a folder without a table. `classes` are the names of its class folders, also of empty ones; None
    if the pictures have captions instead. `folders` are those that were searched."""

    entries: tuple[Entry, ...]
    classes: tuple[str, ...] | None
    folders: tuple[Path, ...]


def read_loose(folder: Path) -> Loose:
    """The pictures of a folder without a table, sorted by name; hidden files and folders are ignored.

    Raises:
        DataNotFound: the folder holds no pictures in class folders and no pictures with texts.
        DataError: there are splits instead of classes, pictures outside of the class folders or without a text, or a
            class folder with other files only.
    """
    found = list(_walk(folder))
    pictures = [path for _, files in found for path in files if path.suffix.lower() in _PICTURES]
    folders = tuple(each for each, _ in found)
    _refuse_splits(folder)
    texts = [path.with_suffix(".txt") for path in pictures]
    have = [text.is_file() for text in texts]
    if any(have):
        _refuse_partial(pictures, have)
        return Loose(without_repeats(_captioned(folder, pictures, texts)), None, (*folders, *texts))
    classes = tuple(sorted({_composed(path.name) for path in _top(folder)}))
    return Loose(_labelled(folder, pictures, found), classes, folders)


def _walk(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder with its files, sorted; links to folders are followed, each folder once."""
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith(_HIDDEN))
        if real not in seen:
            seen.add(real)
            yield Path(here), sorted(Path(here) / name for name in files if not name.startswith(_HIDDEN))


def _top(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(_HIDDEN))


# --- a folder for each class ---------------------------------------------------------------------------------


def _labelled(folder: Path, pictures: Sequence[Path], found: Sequence[tuple[Path, list[Path]]]) -> tuple[Entry, ...]:
    classes = _top(folder)
    outside = [path.name for path in pictures if path.parent == folder]
    if not pictures or (outside and not classes):
        raise _nothing(folder, found)
    if outside:
        raise DataNotFound(
            f"the folder has no table, and {len(outside)} of {len(pictures)} pictures are in no class folder, for "
            f"example {outside[0]}",
            where=folder,
            expected=f"{TABLES}, or all pictures in a folder for each class",
            fix="write captions.csv with the columns file and caption, or move them into the folder of their class",
        )
    if len(classes) == 1:
        raise DataError(
            f"all pictures are in one folder, {classes[0].name!r}, and nothing says what they show",
            where=folder,
            expected="a folder for each class, a table of captions or labels, or a text beside each picture",
            fix=_advice(folder, found),
        )
    _refuse_without_pictures(folder, pictures, found)
    return tuple(_entry(path, folder) for path in pictures)


def _refuse_without_pictures(folder: Path, pictures: Sequence[Path], found: Sequence[tuple[Path, list[Path]]]) -> None:
    """Refuse a folder that holds files but no pictures: a class may be empty, but that is not a class."""
    shown = {path.relative_to(folder).parts[0] for path in pictures}
    for here, files in found:
        top = here.relative_to(folder).parts[:1]
        if top and files and top[0] not in shown:
            raise DataError(
                f"the folder {top[0]!r} would be a class, and has files but no pictures, for example {files[0].name}",
                where=folder,
                expected="pictures in a folder for each class",
                fix="move it out of the folder of classes",
            )


def _entry(path: Path, folder: Path) -> Entry:
    inside = path.relative_to(folder)
    return Entry(str(path), str(inside), None, _composed(inside.parts[0]))


def _refuse_splits(folder: Path) -> None:
    """Refuse splits (train, test, ...) in place of classes, unless the names can only mean classes (a train is a
    vehicle)."""
    top = _top(folder)
    splits = [path for path in top if path.name.lower() in _SPLITS]
    if splits and (len(splits) == len(top) or any(_top(path) or tables_in(path) for path in splits)):
        raise DataError(
            f"the folder holds splits, not classes: {', '.join(path.name for path in splits)}",
            where=folder,
            expected="one split: the folder that holds its class folders or its table",
            fix=f"name one: {shlex.quote(str(splits[0]))}",
        )


# --- a text beside each picture ------------------------------------------------------------------------------


def _refuse_partial(pictures: Sequence[Path], have: Sequence[bool]) -> None:
    lacking = [path for path, has in zip(pictures, have, strict=True) if not has]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(pictures)} pictures have no text beside them",
            where=lacking[0],
            expected=f"{lacking[0].with_suffix('.txt').name} with one caption a line, as others have it",
            fix="add the text or remove the picture",
        )


def _captioned(folder: Path, pictures: Sequence[Path], texts: Sequence[Path]) -> Iterator[Entry]:
    for picture, text in zip(pictures, texts, strict=True):
        lines = [line for line in read_utf8(text, limits.TEXT_BYTES).splitlines() if line.strip()]
        if lines and all(_NUMBERS.fullmatch(line) for line in lines):
            raise DataError(
                "the text beside the picture is numbers, as for boxes of objects",
                where=text,
                expected="one caption a line",
                fix="write captions.csv with the columns file and caption",
            )
        for caption in captions_of(lines, "caption", str(text)):
            yield Entry(str(text), str(picture.relative_to(folder)), caption, None)


# --- neither -------------------------------------------------------------------------------------------------


def _nothing(folder: Path, found: Sequence[tuple[Path, list[Path]]]) -> DataNotFound:
    return DataNotFound(
        "the folder has no table of captions or labels, and no class folders",
        where=folder,
        expected=f"{TABLES}, or a folder of pictures for each class",
        fix=_advice(folder, found),
    )


def _advice(folder: Path, found: Sequence[tuple[Path, list[Path]]]) -> str:
    """What to do about a folder without known content, by what it may be instead."""
    files = [path for _, inside in found for path in inside]
    if any(path.suffix == ".parquet" for path in files):
        return f"name it as a set of the datasets library: {shlex.quote(f'datasets:{folder}')}"
    shard = next((path for path in files if path.suffix == ".tar"), None)
    if shard is not None:
        return f"name the folder of the shards: {shlex.quote(f'wds:{shard.parent}')}"
    tables = [path for path in files if path.suffix in SUFFIXES]
    if tables:
        return (
            f"if {tables[0].relative_to(folder)} is the table, call it captions{tables[0].suffix}, or "
            f"labels{tables[0].suffix}, in {folder}"
        )
    return "write captions.csv with the columns file and caption, or put the pictures into a folder for each class"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
