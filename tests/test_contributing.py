"""CONTRIBUTING's map: it lists every room with its own words, and every path that it names is there."""

from __future__ import annotations

import ast
import re

from tests.test_import_law import ROOMS, ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def first_line(room: str) -> str:
    """Of the docstring of a package."""
    source = (ROOT / room.replace(".", "/") / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def test_the_map_lists_every_room_in_the_order_of_imports() -> None:
    rows = re.findall(r"^\| `([a-z_0-9/]+)/` \| (.+) \|$", PAGE, re.MULTILINE)
    assert [row for row in rows if row[0].replace("/", ".") in ROOMS] == [
        (room.replace(".", "/"), first_line(room)) for room in ROOMS
    ]


def test_every_path_that_it_names_is_there() -> None:
    named = set(re.findall(r"`((?:artifacts|tasks|flows|deployments|tests|docs|docker)/[\w./-]*)`", PAGE))
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
