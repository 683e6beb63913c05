"""The classes of a data set whose labels are names, or numbers for which a list has the names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from artifacts.errors import DataError
from tasks.data.name_list import CLASS_NAMES, read_class_names

_NUMBER = re.compile(r"-?[0-9]{1,9}")
_WORDNET_ID = re.compile(r"n[0-9]{8}")
_DIGITS = 10
"""The most classes that may be named by numbers without a list: they are handwritten digits or house numbers."""


@dataclass(frozen=True)
class Numbering:
    """The names of classes, and the class of each label. `published`: the names are a list that came with the set."""

    names: tuple[str, ...]
    of: dict[str, int]
    published: bool


def numbering(labels: Collection[str], where: object, listed: Path | None, *, folders: bool = False) -> Numbering:
    """The classes of the different labels.

    Without a list, they are the labels, sorted. With a list of names (`classnames.txt`) they are its lines, and a label
    is one of them or its number, counted from 0. Class `folders` with other names are taken as the list's classes in
    order, if there are as many, as in ImageNet.

    Raises:
        DataError: two labels are hardly different; labels are numbers or WordNet ids and there is no list of names; or
            a label is not in the list.
    """
    if listed is None:
        names = classes_of(labels, where)
        _refuse_codes(names, where, folders=folders)
        return Numbering(names, {name: number for number, name in enumerate(names)}, published=False)
    names = read_class_names(listed)
    known = {name: number for number, name in reversed(list(enumerate(names)))}
    of = {label: known[label] for label in labels if label in known}
    if len(of) < len(labels) and all(_NUMBER.fullmatch(label) for label in labels):
        of = {label: int(label) for label in labels}
    elif len(of) < len(labels) and folders and len(labels) == len(names):
        of = {label: number for number, label in enumerate(sorted(labels))}
    wrong = sorted(label for label in labels if not 0 <= of.get(label, -1) < len(names))
    if wrong:
        raise DataError(
            f"the label {wrong[0]!r} is none of the {len(names)} classes",
            where=where,
            expected=f"a name of {listed}, or its number, 0 to {len(names) - 1}",
            fix=f"correct the label, or {listed.name}",
        )
    return Numbering(names, of, published=True)


def named(names: Sequence[str], where: object, listed: Path | None) -> tuple[str, ...]:
    """The names of numbered classes: as published (`names`), or those of a list with as many lines.

    Raises:
        DataError: the list has another length; or there is no list, and the names are WordNet ids or more than ten
            numbers.
    """
    if listed is not None:
        read = read_class_names(listed)
        if len(read) != len(names):
            raise DataError(
                f"{len(read)} names for {len(names)} classes",
                where=listed,
                expected="one class a line, in the order of the set's classes",
                fix="correct the file or remove it",
            )
        return read
    if len(names) > _DIGITS or _WORDNET_ID.fullmatch(names[0] if names else ""):
        _refuse_codes(names, where)
    return tuple(names)


def classes_of(labels: Iterable[str], where: object) -> tuple[str, ...]:
    """The different labels, sorted.

    Raises:
        DataError: two of them differ only in case, Unicode form or white space: they hardly mean two classes, and most
            tokenizers see one text.
    """
    names = tuple(sorted(set(labels)))
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(read_aloud(name), name)
        if other != name:
            raise DataError(
                f"the labels {other!r} and {name!r} differ only in case, Unicode form or white space",
                where=where,
                expected="one spelling for each class",
                fix="write both alike, or give two classes two names",
            )
    return names


def _refuse_codes(names: Sequence[str], where: object, *, folders: bool = False) -> None:
    """Refuse codes as names of classes: the prompt "a photo of a 7." hardly describes a class."""
    for pattern, words in ((_NUMBER, "numbers"), (_WORDNET_ID, "WordNet's ids")):
        if names and all(pattern.fullmatch(name) for name in names):
            raise DataError(
                f"the labels are {words} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}), "
                "and nothing says what the classes are called",
                where=where,
                expected="names, which go into the prompts",
                fix=f"add {CLASS_NAMES} to the folder, one class a line, "
                + (
                    "in the folders' order"
                    if folders
                    else "the first being class 0, or choose a column of names: --columns label=COLUMN"
                ),
            )


def read_aloud(name: str) -> str:
    """A name without differences that most tokenizers ignore: case, Unicode form and white space."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())
