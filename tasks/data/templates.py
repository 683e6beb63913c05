"""Prompt templates: sentences with one `{}` for a class name."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from artifacts.errors import DataError
from tasks.data import limits
from tasks.data.rows import read_utf8

# The first is used as the caption of samples that have only a label. The others are the seven that OpenAI's CLIP
# release found sufficient for ImageNet.
DEFAULT_TEMPLATES = (
    "a photo of a {}.",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def fill(template: str, name: str) -> str:
    """Put a class name into a template. (Not `str.format`, as names and templates may hold braces.)"""
    return template.replace("{}", name)


def read_templates(path: Path) -> tuple[str, ...]:
    """The templates of a text file, one per line; blank lines are skipped.

    Raises:
        DataError: invalid UTF-8, a line without exactly one `{}`, or no template at all; the message names the line.
    """
    return _read(path, "{}", lambda line: line.count("{}") == 1)


def read_benchmark_templates(path: Path) -> tuple[str, ...]:
    """The templates of a file in CLIP_benchmark's layout, which has `{c}` for the name; `{c}` is replaced by `{}`.

    A file that has `{}` in every line, such as OpenAI's lists, is read unchanged.

    Raises:
        DataError: invalid UTF-8, a line without `{c}` or with other braces, or no template; the message names the line.
    """
    lines = [line for line in read_utf8(path, limits.NAMES_BYTES).splitlines() if line.strip()]
    place = "{}" if lines and all(_has_one_brace(line, "{}") for line in lines) else "{c}"
    return tuple(line.replace(place, "{}") for line in _read(path, place, partial(_has_one_brace, place=place)))


def _has_one_brace(line: str, place: str) -> bool:
    """Whether a line has `place` for the class, once or more, and no other brace."""
    rest = line.replace(place, "")
    return rest != line and "{" not in rest and "}" not in rest


_PYTHON = re.compile(r"""lambda\s+\w+\s*:|[\[(]?\s*f?(?P<quote>['"]).*(?P=quote)\s*[])]?\s*,?$""")
"""A line of a Python list of templates, as in CLIP's notebooks: taken literally, quotes and commas would become part of
every prompt."""


def _read(path: Path, name: str, is_template: Callable[[str], bool]) -> tuple[str, ...]:
    """The lines that are not blank; `name` is the placeholder of the class, for messages."""
    lines = {
        number: line.strip() for number, line in enumerate(read_utf8(path, limits.NAMES_BYTES).split("\n"), start=1)
    }
    for number, line in lines.items():
        if _PYTHON.match(line):
            raise _bad_templates(f"{line[:80]!r} is Python source", f"{path}, line {number}", name)
        if line and not is_template(line):
            raise _bad_templates(f"{line[:80]!r} is not a template", f"{path}, line {number}", name)
    templates = tuple(filter(None, lines.values()))
    if not templates:
        raise _bad_templates("the file holds no template", str(path), name)
    return templates


def _bad_templates(what: str, where: str, name: str) -> DataError:
    return DataError(
        what,
        where=where,
        expected=f"one template per line, each with {name} for the class, for example: a photo of a {name}.",
        fix="correct the file, or remove it to use the default templates",
    )
