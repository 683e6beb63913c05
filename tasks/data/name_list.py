"""`classnames.txt`: the names of a data set's classes, one a line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from artifacts.errors import DataError
from tasks.data import limits
from tasks.data.base import Classes
from tasks.data.rows import read_utf8

CLASS_NAMES = "classnames.txt"
ONE_A_LINE = "one class a line and nothing else, the first being class 0"
_SHOWN = 5


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names of a list, one class a line, the first being class 0.

    A blank line is a class without a name; blank lines at the end of the file are ignored. Two classes may have the
    same name, as in ImageNet.

    Raises:
        DataError: the encoding is not UTF-8, there are no names, or the file is not a plain list of names.
    """
    lines = [line.strip() for line in re.split(r"\r\n|\n|\r", read_utf8(path, limits.NAMES_BYTES))]
    while lines and not lines[-1]:
        del lines[-1]
    if not lines:
        raise _no_list("the file holds no class", path)
    for what, is_so in _MISTAKEN.items():
        if is_so(lines):
            raise _no_list(what, path)
    return tuple(lines)


def nameless_notes(classes: Classes | None, labels: Mapping[int, int]) -> tuple[str, ...]:
    """Notes about classes without a name; `labels` counts the samples of each class."""
    nameless = () if classes is None else tuple(place for place, name in enumerate(classes.names) if not name)
    if classes is None or not nameless:
        return ()
    which = ", ".join(map(str, nameless[:_SHOWN])) + (", ..." if len(nameless) > _SHOWN else "")
    theirs = sum(labels.get(place, 0) for place in nameless)
    return (
        f"{len(nameless)} of {len(classes.names)} classes have no name in {CLASS_NAMES} ({which}): their prompts are "
        f"the templates without one; samples of theirs: {theirs:,}",
    )


def _no_list(what: str, path: Path) -> DataError:
    return DataError(what, where=path, expected=ONE_A_LINE, fix="write the file again so")


def _are_numbered(lines: Sequence[str]) -> bool:
    found = [re.match(r"([0-9]+)\s*[:;,\t)]\s*\S", line) for line in lines]
    numbers = [int(match[1]) for match in found if match is not None]
    return len(lines) > 1 and numbers in (list(range(len(lines))), list(range(1, len(lines) + 1)))


def _are_double_spaced(lines: Sequence[str]) -> bool:
    """Whether every second line is blank, as when line ends were doubled; a single blank line is a nameless class."""
    return len(lines) > 3 and all(bool(line) == (place % 2 == 0) for place, line in enumerate(lines))


_MISTAKEN: dict[str, Callable[[Sequence[str]], bool]] = {
    "the class names are a list in JSON or Python": lambda lines: (
        (lines[0][:1], lines[-1][-1:]) in (("[", "]"), ("{", "}"))
    ),
    "the class names stand in quotes, which would become part of every prompt": lambda lines: all(
        re.fullmatch(r"""(?P<quote>["']).*(?P=quote)\s*,?""", line) for line in lines
    ),
    "the lines are numbered, which would become part of every prompt": _are_numbered,
    "the lines begin with WordNet's ids, which would become part of every prompt": lambda lines: all(
        re.match(r"n[0-9]{8}\b", line) for line in lines
    ),
    "the lines have several columns, which would become part of every prompt": lambda lines: all(
        "\t" in line for line in lines
    ),
    "every second line is blank": _are_double_spaced,
}
