"""What errors say, in one file: `tests/wording.json`. A test itself keeps the class and the place of an error.

with refusal(BadArchive, "manifest.json"):
    unpack(...)

At the end of each test, the messages of its refusals are compared with those that the file has for the test and its
parameters: another word, another number, one more or one fewer turns this test red. After a wording was changed on
purpose, run its tests with CLIPSMITH_UPDATE_WORDING=1, and read what `git diff tests/wording.json` shows.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

E = TypeVar("E", bound=BaseException)
Messages = list[list[str]]

KEPT = Path(__file__).with_suffix(".json")
UPDATE = "CLIPSMITH_UPDATE_WORDING"
_FOLDERS = re.compile(r"(?<![\w/])(?:file://)?/(?:[^\s/:;,'\"()]+/)+")
_PORT = re.compile(r"(?<=://127\.0\.0\.1:)\d+")
_NUMBERED = re.compile(r"(FOLDER/[a-z_]\w*?)_?\d+(?![\w.])")
_DIGEST = re.compile(r"(?<![0-9a-z])(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{8,}(?![0-9a-z])")
_said: Messages = []
"""The messages of the test that runs now, in their order."""


@contextmanager
def refusal(kind: type[E] | tuple[type[E], ...], where: object = None) -> Iterator[pytest.ExceptionInfo[E]]:
    """The block raises an error of this class, at a place that ends with `where`; its words are compared later.

    Raises:
        AssertionError: the error has another place.
    """
    with pytest.raises(kind) as caught:
        yield caught
    place = getattr(caught.value, "where", None)
    assert where is None or str(place).endswith(str(where)), f"the error's place is {place}"
    _said.append(written(caught.value))


def written(error: BaseException) -> list[str]:
    """Class and message of an error, line by line, without what is another in each run: folders, digests and ports."""
    text = _NUMBERED.sub(r"\1", _FOLDERS.sub("FOLDER/", f"{type(error).__name__}: {error}"))
    return _PORT.sub("PORT", _DIGEST.sub("DIGEST", text)).splitlines()


@contextmanager
def compared(test: str) -> Iterator[None]:
    """While a test runs: at its end, what its refusals said must be what is kept for it, or is kept from now on.

    Raises:
        AssertionError: it is not.
    """
    try:
        yield
        if os.environ.get(UPDATE):
            keep({test: [*_said]})
        else:
            assert _said == kept().get(test, []), f"{UPDATE}=1 writes this wording into {KEPT.name}"
    finally:
        _said.clear()


def kept() -> dict[str, Messages]:
    """By test, the messages of its refusals."""
    return json.loads(KEPT.read_text(encoding="utf-8"))


def keep(changed: dict[str, Messages]) -> None:
    """Write the messages of some tests, and nothing for those without any; other processes do the same at once."""
    with KEPT.open("r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        now = {test: said for test, said in sorted((json.load(file) | changed).items()) if said}
        file.seek(0)
        file.truncate()
        json.dump(now, file, indent=1, ensure_ascii=False)
        file.write("\n")
