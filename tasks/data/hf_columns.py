"""Which columns of a `datasets` table hold the picture, its captions and its class, by their features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from artifacts.errors import DataError
from tasks.data.captions import TEXT_KEYS
from tasks.data.columns import CAPTIONS, IMAGES, LABELS, Chosen, Key, pick, several

_STRINGS = ("string", "large_string", "string_view")
_BYTES = ("binary", "large_binary", "binary_view")


@dataclass(frozen=True)
class HfColumns:
    """The columns in use. `typed`: the label is a ClassLabel feature, which names its classes; else text or numbers."""

    image: str
    caption: str | None
    label: str | None
    typed: bool

    @property
    def text(self) -> list[str]:
        """The columns that are not pictures."""
        return list(dict.fromkeys(name for name in (self.caption, self.label) if name is not None))


def find_columns(features: dict[str, Any], chosen: Chosen, source: str, unread: str | None = None) -> HfColumns:
    """The chosen columns, or those that features and names suggest; `unread` is a table that the library ignored.

    Raises:
        DataError: a chosen column is missing or of the wrong kind, several could be meant, or there is none.
    """
    image = _image(features, chosen, source)
    caption = _of_kind("caption", CAPTIONS, is_text, features, chosen, source, "texts, or lists of them")
    classes = [name for name, kind in features.items() if is_class(kind)]
    if chosen.label is None and classes:
        label: str | None = classes[0] if len(classes) == 1 else "label" if "label" in classes else None
        if label is None:
            raise several("label", classes, chosen, source)
    else:
        usual = LABELS if caption is None else LABELS[:1]
        kind = _is_label if caption is None or chosen.label is not None else _is_string
        label = _of_kind("label", usual, kind, features, chosen, source, "classes, texts or whole numbers")
    if caption is None and label is None:
        raise DataError(
            "the data set has no captions and no classes",
            where=source,
            expected=f"a column {' or '.join(CAPTIONS[:3])}, or a ClassLabel or texts called label; found "
            f"{_found(features)}",
            fix=_fix(features, chosen, image, unread),
        )
    return HfColumns(image, caption, label, typed=label is not None and is_class(features[label]))


def is_class(kind: Any) -> bool:
    """Whether a feature is a ClassLabel."""
    from datasets import ClassLabel

    return isinstance(kind, ClassLabel)


def is_image(kind: Any) -> bool:
    """Whether a feature is a picture."""
    from datasets import Image

    return isinstance(kind, Image)


def is_text(kind: Any) -> bool:
    """Whether a feature is a string, a list of strings, or a list of records with one."""
    inner = _inner(kind)
    if isinstance(inner, dict):
        return any(key in inner and is_text(inner[key]) for key in TEXT_KEYS)
    return _is_string(inner)


def holds_bytes(kind: Any) -> bool:
    """Whether a feature is the bytes of a file, or a record of them as the library stores pictures."""
    return getattr(kind, "dtype", None) in _BYTES or (isinstance(kind, dict) and holds_bytes(kind.get("bytes")))


def _image(features: dict[str, Any], chosen: Chosen, source: str) -> str:
    """The column of pictures: an Image; else bytes; else texts (paths or base64) with a usual name."""
    if chosen.image is not None:
        name = pick("image", (), list(features), chosen, source)
        assert name is not None  # the user chose it
        return _usable_image(name, features, source)
    for kind in (is_image, holds_bytes):
        found = [name for name, feature in features.items() if kind(feature)]
        if len(found) > 1 and IMAGES[0] not in found:
            raise several("image", found, chosen, source)
        if found:
            return IMAGES[0] if IMAGES[0] in found else found[0]
    listed = [name for name, feature in features.items() if is_image(_inner(feature))]
    name = listed[0] if listed else pick("image", IMAGES, list(features), chosen, source)
    if name is None:
        raise DataError(
            "the data set has no image column",
            where=source,
            expected=f"an Image column, the bytes of files, or their paths; found {_found(features)}",
            fix="choose it: --columns image=COLUMN",
        )
    return _usable_image(name, features, source)


def _usable_image(name: str, features: dict[str, Any], source: str) -> str:
    kind = features[name]
    if is_image(kind) or holds_bytes(kind) or _is_string(kind):
        return name
    raise DataError(
        f"the column {name} holds {'lists of pictures' if is_image(_inner(kind)) else 'no picture files'}",
        where=source,
        expected=f"one picture a row: an Image, the bytes of a file, or a path; found {_found(features)}",
        fix="make one row of each picture with datasets' map and cast_column, and save the set with save_to_disk",
    )


def _of_kind(
    key: Key,
    usual: tuple[str, ...],
    kind: Callable[[Any], bool],
    features: dict[str, Any],
    chosen: Chosen,
    source: str,
    words: str,
) -> str | None:
    """The chosen column, or the column of this kind that has a usual name."""
    fitting = [name for name, feature in features.items() if kind(feature)]
    if getattr(chosen, key) is None:
        return pick(key, usual, fitting, chosen, source)
    name = pick(key, usual, list(features), chosen, source)
    if name not in fitting:
        raise DataError(
            f"the column {name} holds no {key}s",
            where=source,
            expected=f"{words}; found {_found(features)}",
            fix=f"correct {key}= in --columns",
        )
    return name


def _is_label(kind: Any) -> bool:
    dtype = str(getattr(kind, "dtype", ""))
    return is_class(kind) or _is_string(kind) or dtype.startswith(("int", "uint", "float", "bool"))


def _is_string(kind: Any) -> bool:
    return getattr(kind, "dtype", None) in _STRINGS and not is_class(kind)


def _inner(kind: Any) -> Any:
    """The feature inside a list, in any of the library's notations of lists."""
    if isinstance(kind, list):
        return kind[0] if kind else None
    return getattr(kind, "feature", kind)


def _fix(features: dict[str, Any], chosen: Chosen, image: str, unread: str | None) -> str:
    if unread is not None:
        suffix = unread[unread.rindex(".") :]
        return (
            f"{unread} is not read beside pictures: if it is their table, call it metadata{suffix} and the column of "
            "their names file_name; if it holds them itself, move it into a folder of its own"
        )
    names = [name for name, kind in features.items() if name != image and is_text(kind)]
    if names:
        return "choose one: " + " or ".join(chosen.option("caption", name) for name in names[:3])
    return "choose a column of captions or labels with --columns, or add one and save the set with save_to_disk"


def _found(features: dict[str, Any]) -> str:
    return ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())
