"""A webdataset in the layout of CLIP_benchmark as a data source: zero-shot classification, or retrieval."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import DataError, DataNotFound
from tasks.data.base import Classes, Sample, numbered
from tasks.data.images import decode_unchanged
from tasks.data.rows import read_utf8
from tasks.data.shards import Part, read_shard
from tasks.data.subset import whole_subset
from tasks.data.templates import DEFAULT_TEMPLATES, fill, read_benchmark_templates
from tasks.data.wds_source import WdsSource, find_webdataset

if TYPE_CHECKING:
    from PIL.Image import Image

_IMAGES = ("webp", "png", "jpg", "jpeg")  # those that CLIP_benchmark reads, in its order
_CLASS, _CAPTIONS = "cls", "txt"
_NAMES, _TEMPLATES, _TYPE = "classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt"
_TYPES = ("classification", "retrieval")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A sample that is not hashed yet; with classes, it has no captions of its own."""

    key: str
    image: Part
    label: int | None
    captions: tuple[str, ...]


class WebDataset:
    """Shards of pictures with a class (`.cls`) or captions, one a line (`.txt`).

    A picture with several captions gives one sample for each. `limit` counts samples and keeps a seeded draw of whole
    pictures, with all of their captions.
    """

    def __init__(self, spec: str, limit: int | None = None) -> None:
        """Read every header, class and caption, and hash the pictures that are kept; nothing is decoded.

        Raises:
            ConfigError: a malformed spec.
            DataNotFound: no such folder, hub id or split, or no class names.
            DataError: a damaged shard; a sample without picture, class or captions, or with a key that another has; a
                class that is out of range or has no samples. Names the sample or the line.
        """
        found = find_webdataset(spec)
        self.source: str = found.name
        self.files: Sequence[Path] = found.files
        self.classes: Classes | None = _classes(found) if _is_classification(found.root) else None
        every = list(_entries(found, self.classes))
        kept = whole_subset([len(entry.captions) or 1 for entry in every], limit)
        self._parts: list[Part] = []
        self.samples: Sequence[Sample] = tuple(self._samples([every[place] for place in kept]))

    def image(self, index: int) -> Image:
        """Decode sample `index` to an RGB picture.

        Raises:
            BadSample: the member is not a complete image.
            DataError: the shard changed or went away after the set was opened.
        """
        part = self._parts[index]
        return decode_unchanged(part.read(), self.samples[index].image_hash, part.where)

    def _samples(self, entries: Sequence[_Entry]) -> Iterator[Sample]:
        """In the order of the shards, which are so read from end to end."""
        classes = self.classes
        prompts = [] if classes is None else [fill(classes.templates[0], name) for name in classes.names]
        captions = [entry.captions if entry.label is None else (prompts[entry.label],) for entry in entries]
        names = numbered([entry.key for entry, own in zip(entries, captions, strict=True) for _ in own])
        for entry, own in zip(entries, captions, strict=True):
            digest = hashlib.sha256(entry.image.read()).hexdigest()
            for caption in own:
                self._parts.append(entry.image)
                yield Sample(next(names), digest, caption, entry.label, entry.key)


# --- classes -----------------------------------------------------------------------------------------------


def _is_classification(root: Path) -> bool:
    """What `dataset_type.txt` says; without it, whether there are class names."""
    path = root / _TYPE
    if not path.is_file():
        return (root / _NAMES).is_file() or (root / _TEMPLATES).is_file()
    kind = read_utf8(path).strip().lower()
    if kind not in _TYPES:
        raise DataError(
            f"{kind[:40]!r} is not a type of data set that can be evaluated",
            where=f"{path}, line 1",
            expected=" or ".join(_TYPES),
            fix="use another data set",
        )
    return kind == "classification"


def _classes(source: WdsSource) -> Classes:
    path = source.root / _NAMES
    if not path.is_file():
        raise DataNotFound(
            "there are no class names", where=path, expected="one class a line, the first being class 0", fix="add it"
        )
    templates = source.root / _TEMPLATES
    read = read_benchmark_templates(templates) if templates.is_file() else DEFAULT_TEMPLATES
    return Classes(_class_names(path), read, published=True)


def _class_names(path: Path) -> tuple[str, ...]:
    """One a line. A line left blank would move the numbers of all that follow, so only the end may be blank.

    Two classes may have one name: ImageNet's are known for it.
    """
    names = [line.strip() for line in read_utf8(path).rstrip().split("\n")]
    for number, name in enumerate(names, start=1):
        if not name:
            raise DataError(
                "a class without a name", where=f"{path}, line {number}", expected="one class a line", fix="name it"
            )
    return tuple(names)


# --- samples -----------------------------------------------------------------------------------------------


def _entries(source: WdsSource, classes: Classes | None) -> Iterator[_Entry]:
    wanted = _CAPTIONS if classes is None else _CLASS
    seen: dict[str, Path] = {}
    for shard in source.shards:
        for key, parts in read_shard(shard, (wanted,)):
            if key in seen:
                raise DataError(
                    f"the id {key!r} comes twice",
                    where=shard if seen[key] == shard else f"{seen[key]} and {shard}",
                    expected="a key of its own for each sample, its members side by side",
                    fix="write the shards again",
                )
            seen[key] = shard
            where = f"{shard}, sample {key!r}"
            image = next((parts[kind] for kind in _IMAGES if kind in parts), None)
            if image is None or wanted not in parts:
                raise _lacking("picture" if image is None else "captions" if classes is None else "class", where)
            if classes is None:
                yield _Entry(key, image, None, _captions(parts[wanted]))
            else:
                yield _Entry(key, image, _label(parts[wanted], len(classes.names)), ())


def _lacking(what: str, where: str) -> DataError:
    kinds = {"picture": ", .".join(_IMAGES), "captions": _CAPTIONS, "class": _CLASS}
    return DataError(
        f"the sample has no {what}", where=where, expected=f"a member .{kinds[what]}", fix="add it or remove the sample"
    )


def _label(part: Part, classes: int) -> int:
    assert part.data is not None
    text = part.data.decode("ascii", errors="replace").strip()
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise DataError(f"{text[:20]!r} is not a class", where=part.where, expected="a whole number", fix="correct it")
    if not 0 <= int(text) < classes:
        raise DataError(
            f"class {text} is out of range",
            where=part.where,
            expected=f"0 to {classes - 1}: {_NAMES} names {classes} classes",
            fix="correct the class, or the class names",
        )
    return int(text)


def _captions(part: Part) -> tuple[str, ...]:
    assert part.data is not None
    try:
        lines = part.data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError("invalid UTF-8", where=part.where, expected="captions in UTF-8", fix="convert them") from error
    empty = next((number for number, line in enumerate(lines, start=1) if not line.strip()), 1 if not lines else None)
    if empty is not None:
        raise DataError(
            "an empty caption", where=f"{part.where}, line {empty}", expected="a caption a line", fix="remove the line"
        )
    return tuple(dict.fromkeys(lines))
