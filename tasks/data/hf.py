"""A data set of the `datasets` library as a data source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import DataError
from tasks.data.base import Classes, Sample, hashed
from tasks.data.hf_source import load_source, parse_source
from tasks.data.images import decode_unchanged
from tasks.data.subset import subset
from tasks.data.templates import DEFAULT_TEMPLATES, fill

if TYPE_CHECKING:
    from PIL.Image import Image

_CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "sentence", "sentences", "description")
_STRINGS = ("string", "large_string", "string_view")


@dataclass(frozen=True)
class _Columns:
    image: str
    caption: str | None
    label: str | None

    @property
    def text(self) -> list[str]:
        return [name for name in (self.caption, self.label) if name is not None]


class HfDataset:
    """A folder written by `save_to_disk` or a data set on the hub: `datasets:PLACE[:SPLIT]`.

    A row with a list of captions gives one sample for each different one; `limit` counts samples. Rows without captions
    get the first template filled with their class name.
    """

    def __init__(self, spec: str, limit: int | None = None) -> None:
        """Load the table and hash the images; nothing is decoded.

        Raises:
            ConfigError: a malformed spec, or a split has to be named.
            DataNotFound: no such folder, hub id, revision or split, or the hub cannot be reached.
            DataError: no usable columns, or a row without image, caption or label.
        """
        from datasets import Image as ImageFeature

        found = parse_source(spec)
        data, self.source = load_source(found)
        data = data.with_format(None)  # a saved set may come back as tensors
        columns = _find_columns(data.features, self.source)
        names = None if columns.label is None else tuple(data.features[columns.label].names)
        self.classes: Classes | None = None if names is None else Classes(names, DEFAULT_TEMPLATES, published=True)
        self._column = columns.image
        self._images = data.select_columns([columns.image]).cast_column(columns.image, ImageFeature(decode=False))
        every = list(_drafts(data.select_columns(columns.text), columns, self.classes, self.source))
        drafts = [every[place] for place in subset(len(every), limit)]
        self._rows = [draft.row for draft in drafts]
        self._outside: set[Path] = set()
        hashes = hashed(self._rows, lambda row: hashlib.sha256(self._bytes(row)).hexdigest())
        saved = () if found.folder is None else (Path(found.place), *sorted(Path(found.place).rglob("*")))
        self.files: Sequence[Path] = (*saved, *sorted(self._outside)) if saved else ()
        self.samples: Sequence[Sample] = tuple(
            Sample(draft.id, hashes[draft.row], draft.caption, draft.label, str(draft.row)) for draft in drafts
        )

    def image(self, index: int) -> Image:
        """Decode sample `index` to an RGB picture.

        Raises:
            BadSample: the row does not hold a complete image.
            DataError: the image changed or went away after the set was opened.
        """
        row = self._rows[index]
        return decode_unchanged(self._bytes(row), self.samples[index].image_hash, self._where(row))

    def _bytes(self, row: int) -> bytes:
        """The stored bytes of an image: in the table, or in a file that the table names."""
        cell = self._images[row][self._column] or {}
        if cell.get("bytes") is not None:
            return bytes(cell["bytes"])
        if not cell.get("path"):
            raise DataError("the row has no image", where=self._where(row), expected="an image", fix="remove the row")
        self._outside.add(Path(cell["path"]))
        try:
            return Path(cell["path"]).read_bytes()
        except OSError as error:
            raise DataError(
                f"the image file cannot be read: {error.strerror}",
                where=f"{self._where(row)}, {cell['path']}",
                expected="images inside the data set, or files on this machine",
                fix="save the data set again with the images embedded",
            ) from error

    def _where(self, row: int) -> str:
        return f"{self.source}, row {row}"


# --- columns -----------------------------------------------------------------------------------------------


def _find_columns(features: dict[str, Any], source: str) -> _Columns:
    from datasets import ClassLabel
    from datasets import Image as ImageFeature

    image = _only([name for name, kind in features.items() if isinstance(kind, ImageFeature)], "image", source)
    label = _only([name for name, kind in features.items() if isinstance(kind, ClassLabel)], "label", source)
    caption = next((name for name in _CAPTION_COLUMNS if name in features and _is_text(features[name])), None)
    if image is None or (caption is None and label is None):
        found = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())
        raise DataError(
            "the data set has no image column" if image is None else "the data set has no captions and no classes",
            where=source,
            expected=f"an Image column and one of {', '.join(_CAPTION_COLUMNS)} or a ClassLabel, found {found}",
            fix="rename or cast the columns and save the set with save_to_disk",
        )
    return _Columns(image, caption, label)


def _only(names: list[str], preferred: str, source: str) -> str | None:
    if len(names) < 2:
        return names[0] if names else None
    if preferred in names:
        return preferred
    raise DataError(
        f"several {preferred} columns: {', '.join(names)}",
        where=source,
        expected=f"one, or one that is named {preferred}",
        fix="remove or rename columns",
    )


def _is_text(kind: Any) -> bool:
    """Whether a feature is a string or a list of strings."""
    return getattr(getattr(kind, "feature", kind), "dtype", None) in _STRINGS


# --- rows --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draft:
    """A sample whose image is not hashed yet."""

    id: str
    row: int
    caption: str
    label: int | None


def _drafts(table: Any, columns: _Columns, classes: Classes | None, source: str) -> Iterator[_Draft]:
    for row, values in enumerate(table):
        where = f"{source}, row {row}"
        label = None if classes is None else _label(values[columns.label], len(classes.names), where)
        for number, caption in enumerate(_captions(values, columns, classes, label, where), start=1):
            yield _Draft(str(row) if number == 1 else f"{row}#{number}", row, caption, label)


def _label(value: int | None, classes: int, where: str) -> int:
    if value is None or value < 0:  # -1 is how the library marks the hidden labels of test splits
        raise DataError("the row has no label", where=where, expected="a class", fix="use a labelled split")
    if value >= classes:
        raise DataError(
            f"label {value} is not one of the set's classes",
            where=where,
            expected=f"0 to {classes - 1}: the label's feature names {classes} classes",
            fix="correct the row, or the names of the classes",
        )
    return value


def _captions(
    values: dict[str, Any], columns: _Columns, classes: Classes | None, label: int | None, where: str
) -> list[str]:
    if columns.caption is not None:
        value = values[columns.caption]
        captions = value if isinstance(value, list) else [value]
        if not captions or not all(caption and caption.strip() for caption in captions):
            raise DataError(f"empty {columns.caption}", where=where, expected="a caption", fix="remove the row")
        return list(dict.fromkeys(captions))
    assert classes is not None and label is not None  # _find_columns wants captions or classes
    return [fill(classes.templates[0], classes.names[label])]
