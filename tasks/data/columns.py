"""Which columns of a table hold the picture, its captions and its class: chosen by the user, or by usual names."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from artifacts.errors import ConfigError, DataError

Key = Literal["image", "label", "caption"]
_FORM = "image=COLUMN,label=COLUMN,caption=COLUMN, or some of the three"

# If a table has several names of a list, only the list's first name wins over the others; else the user has to choose.
IMAGES: tuple[str, ...] = ("image", "file", "file_name", "filename", "filepath", "file_path", "image_name")
IMAGES += ("image_path", "image_file", "img", "img_path", "path", "jpg", "jpeg", "png", "webp", "picture", "photo")
LABELS: tuple[str, ...] = ("label", "labels", "class", "class_name", "classname", "category", "category_name")
LABELS += ("label_name", "cls", "fine_label", "coarse_label", "fine_labels", "coarse_labels", "target")
CAPTIONS = ("caption", "captions", "text", "texts", "txt", "title", "sentence", "sentences", "comment", "description")


@dataclass(frozen=True)
class Chosen:
    """The columns that the user chose; None where the usual names decide."""

    image: str | None = None
    label: str | None = None
    caption: str | None = None

    def option(self, key: Key, column: str) -> str:
        """The command-line option that chooses `column` for `key` in addition, for messages."""
        chosen = replace(self, **{key: column})
        pairs = ((field.name, getattr(chosen, field.name)) for field in fields(self))
        return "--columns " + shlex.quote(",".join(f"{name}={value}" for name, value in pairs if value is not None))


BY_NAME = Chosen()
"""No column is chosen."""


def parse_columns(text: str | None) -> Chosen:
    """Read `image=jpg,label=fine_label`; None and an empty text choose nothing.

    Raises:
        ConfigError: a key is unknown, occurs twice, or has no column.
    """
    chosen = Chosen()
    for part in (text or "").split(",") if text else ():
        key, given, column = (piece.strip() for piece in part.partition("="))
        if key not in ("image", "label", "caption") or not given or not column:
            raise ConfigError(f"columns: {part.strip()!r} is not KEY=COLUMN", expected=_FORM, fix="correct it")
        if getattr(chosen, key) is not None:
            raise ConfigError(f"columns: {key} comes twice", expected=_FORM, fix="keep one")
        chosen = replace(chosen, **{key: column})
    return chosen


def pick(key: Key, usual: Sequence[str], columns: Sequence[str], chosen: Chosen, where: object) -> str | None:
    """The column for `key`: the chosen one; else the one with the first of the `usual` names; else the only one with
    any of them; else None.

    Names are compared without case and outer white space.

    Raises:
        DataError: the chosen column does not exist, or several columns have usual names and none has the first.
    """
    named = {_plain(column): column for column in reversed(columns)}
    wanted: str | None = getattr(chosen, key)
    if wanted is not None:
        if wanted not in columns and _plain(wanted) not in named:
            raise DataError(
                f"there is no column {wanted!r}",
                where=where,
                expected=f"one of {', '.join(columns)}",
                fix=f"correct {key}= in --columns",
            )
        return wanted if wanted in columns else named[_plain(wanted)]
    found = [named[name] for name in usual if name in named]
    if len(found) > 1 and _plain(found[0]) != usual[0]:
        raise several(key, found, chosen, where)
    return found[0] if found else None


def several(key: Key, found: Sequence[str], chosen: Chosen, where: object) -> DataError:
    """The error about several columns that could be meant."""
    return DataError(
        f"several {key} columns: {', '.join(found)}",
        where=where,
        expected=f"one, or one that is named {key}",
        fix=" or ".join(chosen.option(key, name) for name in found),
    )


def _plain(name: str) -> str:
    return name.strip().casefold()
