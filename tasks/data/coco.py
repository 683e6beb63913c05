"""Captions as COCO publishes them: one JSON document with `images` and `annotations`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artifacts.errors import DataError
from artifacts.records import refuse_large
from artifacts.strict_json import strict_json
from tasks.data import limits
from tasks.data.captions import captions_of, checked_text
from tasks.data.listing import Entry, plain_path, without_repeats
from tasks.data.rows import read_utf8

_PATTERN = "captions_*.json"
_EXPECTED = "COCO's captions: images with id and file_name, annotations with image_id and caption"


def find_coco(folder: Path) -> Path | None:
    """The `captions_NAME.json` in a folder or in its `annotations/`, as in COCO's archives, or None.

    Raises:
        DataError: there are several.
    """
    found = sorted([*folder.glob(_PATTERN), *(folder / "annotations").glob(_PATTERN)])
    if len(found) > 1:
        names = [str(path.relative_to(folder)) for path in found]
        raise DataError(
            f"the folder has several tables: {', '.join(names)}",
            where=folder,
            expected="one, or a captions.json that is the one to use",
            fix=f"ln -s {shlex.quote(names[-1])} {shlex.quote(str(folder / 'captions.json'))}, or another of them",
        )
    return found[0] if found else None


def read_coco(path: Path, folder: Path) -> tuple[Entry, ...]:
    """Every annotation in order, with the file of its image.

    Raises:
        DataError: it is not such a document, an annotation has an unknown image or no caption, or a path is not plain
            and relative.
    """
    try:
        text = read_utf8(path)
        refuse_large(text.encode(), limits.TABLE)
        document = strict_json(text)
    except ValueError as error:
        raise DataError(f"not valid JSON: {error}", where=path, expected=_EXPECTED, fix="download it again") from error
    images, annotations = _records(document, "images", path), _records(document, "annotations", path)
    files: dict[Any, str] = {}
    for number, image in enumerate(images):
        where = f"{path}, images[{number}]"
        name = checked_text(image.get("file_name"), "file_name", where)
        if files.setdefault(_id(image, "id", where), name) != name:
            raise DataError(f"the id {image['id']} comes twice", where=where, expected=_EXPECTED, fix="keep one")
    return without_repeats(_entries(annotations, files, path, folder))


def _entries(annotations: list[dict[str, Any]], files: dict[Any, str], path: Path, folder: Path) -> Iterator[Entry]:
    for number, annotation in enumerate(annotations):
        where = f"{path}, annotations[{number}]"
        if "caption" not in annotation and "bbox" in annotation:
            raise DataError(
                "the annotations are boxes of objects, not captions",
                where=where,
                expected=_EXPECTED,
                fix="give captions_*.json of the same set",
            )
        image = _id(annotation, "image_id", where)
        if image not in files:
            raise DataError(f"image_id {image} is no id of `images`", where=where, expected=_EXPECTED, fix="remove it")
        for caption in captions_of(annotation.get("caption"), "caption", where):
            yield Entry(where, plain_path(files[image], where, folder), caption, None)


def _id(record: dict[str, Any], key: str, where: str) -> int | str:
    value = record.get(key)
    if not isinstance(value, int | str):
        raise DataError(f"{key} is {value!r}", where=where, expected="a number or a text", fix="correct the value")
    return value


def _records(document: Any, key: str, path: Path) -> list[dict[str, Any]]:
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise DataError(
            f"the document has no list of {key}",
            where=path,
            expected=_EXPECTED,
            fix="give the captions of a set that publishes them: COCO has none for its test pictures",
        )
    return found
