"""A folder of images with a table of captions or labels as a data source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import DataError
from artifacts.refs import digest_file
from tasks.data.base import Classes, Sample, hashed, numbered
from tasks.data.class_names import classes_of
from tasks.data.images import decode_unchanged
from tasks.data.listing import Entry, find_listing, read_listing
from tasks.data.rows import unreadable
from tasks.data.subset import subset
from tasks.data.templates import DEFAULT_TEMPLATES, fill, read_templates

if TYPE_CHECKING:
    from PIL.Image import Image


class Folder:
    """A folder with `captions.*`, `labels.*` or `metadata.*` (csv, jsonl or parquet) and an optional `templates.txt`.

    Every row of the table is checked; `limit` keeps a seeded draw of rows, and only their files are opened. The classes
    are those of the whole table, so that a label means the same under every limit.
    """

    def __init__(self, path: Path, limit: int | None = None) -> None:
        """Read the table and hash the images; nothing is decoded.

        Raises:
            DataNotFound: no such folder, or it holds no table.
            DataError: a malformed table, an image that is not there, or a path that leaves the folder.
        """
        root = Path(os.path.realpath(path))
        listing = find_listing(root)
        _inside(root, listing.name, str(root))
        entries = read_listing(listing)
        kept = [entries[place] for place in subset(len(entries), limit)]
        places = [path / entry.file for entry in kept]
        folders = {path, *(place.parent for place in places)}
        self.files: Sequence[Path] = (*sorted(folders), path / listing.name, *_templates(path), *places)
        self.source: str = str(root)
        self.classes: Classes | None = _classes(root, listing, entries)
        self._paths = [_inside(root, entry.file, entry.where) for entry in kept]
        self.samples: Sequence[Sample] = _samples(kept, self._paths, self.classes)

    def image(self, index: int) -> Image:
        """Decode sample `index` to an RGB picture.

        Raises:
            BadSample: the file is not a complete image.
            DataError: the file changed or went away after the folder was opened.
        """
        path = self._paths[index]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise unreadable(path, error) from error
        return decode_unchanged(data, self.samples[index].image_hash, str(path))


def _inside(root: Path, file: str, where: str) -> Path:
    """The real path of a file of the folder, links followed."""
    path = Path(os.path.realpath(root / file))
    if not path.is_relative_to(root):
        raise DataError(
            f"{file!r} is a link that leaves the folder",
            where=where,
            expected=f"a file below {root}",
            fix="copy the file into the folder",
        )
    try:
        found = path.is_file()
    except OSError as error:  # for example a name that is too long
        raise unreadable(path, error) from error
    if not found:
        raise DataError(
            f"the listed file {file!r} does not exist",
            where=where,
            expected=f"a file at {path}",
            fix="add the file or remove its row",
        )
    return path


def _hash_file(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError as error:
        raise unreadable(path, error) from error


def _templates(folder: Path) -> list[Path]:
    path = folder / "templates.txt"
    return [path] if path.exists() else []


def _classes(root: Path, listing: Path, entries: Sequence[Entry]) -> Classes | None:
    names = classes_of((entry.label for entry in entries if entry.label is not None), listing)
    if not names:
        return None
    if not _templates(root):
        return Classes(names, DEFAULT_TEMPLATES)
    return Classes(names, read_templates(_inside(root, "templates.txt", str(root))))


def _samples(entries: Sequence[Entry], paths: Sequence[Path], classes: Classes | None) -> tuple[Sample, ...]:
    hashes = hashed(paths, _hash_file)
    names = () if classes is None else classes.names
    labels: dict[str | None, int] = {name: number for number, name in enumerate(names)}
    return tuple(
        Sample(name, hashes[path], _caption(entry, classes), labels.get(entry.label), entry.file)
        for name, entry, path in zip(numbered([entry.file for entry in entries]), entries, paths, strict=True)
    )


def _caption(entry: Entry, classes: Classes | None) -> str:
    if entry.caption is None and classes is not None and entry.label is not None:
        return fill(classes.templates[0], entry.label)
    return entry.caption or ""
