"""A data set of the `datasets` library as a data source."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.errors import DataError
from artifacts.limits import Limits
from artifacts.records import read_bytes
from tasks.data import limits
from tasks.data.base import Classes, Encoded, Sample, hashed, label_counts
from tasks.data.captions import captions_of, label_text
from tasks.data.class_names import Numbering, named, numbering
from tasks.data.columns import BY_NAME, Chosen
from tasks.data.hf_columns import HfColumns, find_columns, is_image
from tasks.data.hf_source import load_source, parse_source
from tasks.data.images import Stored
from tasks.data.listing import plain_path
from tasks.data.located import Located
from tasks.data.name_list import CLASS_NAMES, nameless_notes
from tasks.data.rows import too_much
from tasks.data.subset import subset
from tasks.data.templates import DEFAULT_TEMPLATES, fill


class HfDataset(Stored):
    """A folder written by `save_to_disk` or of files that the library reads, or a set on the hub:
    `datasets:PLACE[:SPLIT]`.

    A row with a list of captions gives one sample per different caption; `limit` counts samples. Rows without captions
    get the first template filled with their class name.
    """

    def __init__(self, spec: str, limit: int | None = None, chosen: Chosen = BY_NAME) -> None:
        """Load the table and hash the images; nothing is decoded.

        Raises:
            ConfigError: the spec is malformed, or must name a split.
            DataNotFound: no such folder, hub id, revision or split, or the hub cannot be reached.
            DataError: no usable columns, or a row without image, caption or label.
        """
        found = parse_source(spec)
        loaded = load_source(found)
        self.source: str = loaded.name
        self._work = loaded.work  # this object reads from the folder, which is removed with it
        self._located = None if found.folder is None else Located(found.folder)
        data = loaded.data.with_format(None)  # a saved set may come back as tensors
        columns = find_columns(data.features, chosen, self.source, loaded.unread)
        rows = data.select_columns(columns.text)
        labels = self._labels(rows, columns, data.features)
        self.classes: Classes | None = None
        if labels is not None:
            self.classes = Classes(labels.names, DEFAULT_TEMPLATES, published=labels.published)
        self._column = columns.image
        self._images = _undecoded(data.select_columns([columns.image]), columns.image)
        every = list(_drafts(rows, columns, labels, self.source))
        drafts = [every[place] for place in subset(len(every), limit)]
        self._rows = [draft.row for draft in drafts]
        self._outside: set[Path] = set()
        hashes = hashed(self._rows, lambda row: hashlib.sha256(self._bytes(row)).hexdigest())
        saved = () if found.folder is None else (Path(found.place), *sorted(Path(found.place).rglob("*")))
        self.files: Sequence[Path] = (*saved, *sorted(self._outside)) if saved else ()
        self.samples: Sequence[Sample] = tuple(
            Sample(draft.id, hashes[draft.row], draft.caption, draft.label, str(draft.row)) for draft in drafts
        )
        self.notes: Sequence[str] = nameless_notes(self.classes, label_counts(self.samples))

    def stored(self, index: int) -> bytes:
        """The bytes of sample `index`'s picture, from the table or from a file that the table names.

        Raises:
            DataError: the file went away after the set was opened.
        """
        return self._bytes(self._rows[index])

    def encoded(self, index: int) -> Encoded:
        """The bytes of sample `index`'s picture. Raises: DataError: its file went away after the set was opened."""
        return Encoded(self.stored(index), self.samples[index].image_hash, self._where(self._rows[index]))

    def _labels(self, rows: Any, columns: HfColumns, features: dict[str, Any]) -> Numbering | None:
        """The classes: those of the feature, or the texts or numbers in the rows."""
        name = columns.label
        if name is None:
            return None
        listed = None
        if self._located is not None and (self._located.root / CLASS_NAMES).is_file():
            listed = self._located.file(CLASS_NAMES, self.source)
        if columns.typed:
            return Numbering(named(features[name].names, self.source, listed), {}, published=True)
        column = rows.select_columns([name])
        labels = {label_text(row[name], name, self._where(number)) for number, row in enumerate(column)}
        return numbering(labels, self.source, listed) if labels else None

    def _bytes(self, row: int) -> bytes:
        """The stored bytes of a row's image, from the table or from a file that the table names."""
        cell = self._images[row][self._column]
        if isinstance(cell, str):
            cell = {"bytes": _base64(cell), "path": cell}
        elif isinstance(cell, bytes):
            cell = {"bytes": cell}
        cell = cell or {}
        if cell.get("bytes") is not None:
            return bytes(cell["bytes"])
        if not cell.get("path"):
            raise DataError("the row has no image", where=self._where(row), expected="an image", fix="remove the row")
        path = self._path(cell["path"], row)
        self._outside.add(path)
        try:
            data = read_bytes(path, Limits(limits.PICTURE_BYTES, values=0))
        except OSError as error:
            raise DataError(
                f"the image file cannot be read: {error.strerror}",
                where=f"{self._where(row)}, {path}",
                expected="images inside the data set, or files on this machine",
                fix="save the data set again with the images embedded",
            ) from error
        if len(data) > limits.PICTURE_BYTES:
            raise too_much("the picture's file is too large", path, f"at most {limits.PICTURE_BYTES:,} bytes")
        return data

    def _path(self, text: str, row: int) -> Path:
        """A path that the library resolved, or one relative to the folder of the set."""
        path = Path(text)
        if path.is_absolute() or self._located is None:
            return path
        return self._located.file(plain_path(text, self._where(row), self._located.root), self._where(row))

    def _where(self, row: int) -> str:
        return f"{self.source}, row {row}"


def _undecoded(images: Any, column: str) -> Any:
    """The column of pictures as stored, without decoding."""
    from datasets import Image as ImageFeature

    return images.cast_column(column, ImageFeature(decode=False)) if is_image(images.features[column]) else images


def _base64(text: str) -> bytes | None:
    """The bytes of a base64 text; None for a path, which has a dot before its suffix."""
    try:
        return base64.b64decode(text.partition(";base64,")[2] or text, validate=True)
    except ValueError:
        return None


# --- rows --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draft:
    """A sample whose image is not hashed yet."""

    id: str
    row: int
    caption: str
    label: int | None


def _drafts(table: Any, columns: HfColumns, labels: Numbering | None, source: str) -> Iterator[_Draft]:
    for row, values in enumerate(table):
        where = f"{source}, row {row}"
        label = None
        if labels is not None and columns.label is not None:
            value = values[columns.label]
            if columns.typed:
                label = _label(value, len(labels.names), where)
            else:
                label = labels.of[label_text(value, columns.label, where)]
        if columns.caption is not None:
            captions = captions_of(values[columns.caption], columns.caption, where)
        else:
            assert labels is not None and label is not None  # `find_columns` requires captions or classes
            captions = [fill(DEFAULT_TEMPLATES[0], labels.names[label])]
        for number, caption in enumerate(captions, start=1):
            yield _Draft(str(row) if number == 1 else f"{row}#{number}", row, caption, label)


def _label(value: int | None, classes: int, where: str) -> int:
    if value is None or value < 0:  # the library marks hidden labels of test splits with -1
        raise DataError("the row has no label", where=where, expected="a class", fix="use a labelled split")
    if value >= classes:
        raise DataError(
            f"label {value} is not one of the set's classes",
            where=where,
            expected=f"0 to {classes - 1}: the label's feature names {classes} classes",
            fix="correct the row, or the names of the classes",
        )
    return value
