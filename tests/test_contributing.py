"""CONTRIBUTING's map: it lists every room in its own words, and leads to all that a change touches."""

from __future__ import annotations

import ast
import re

import pytest

from tests.test_import_law import ROOMS, ROOT, TOPS

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


ADDED = {
    "a metric of accuracy": r"\bmean_class_recall\b|\btop_k_hits\b",
    "a gate": r"\bmax_class_recall_drop\b",
    "a sentence of the report": r'"Coverage"|"Sizes"|class="verdict"',
    "a model family": r"\bChineseClip\b|\bchinese_clip\b",
    "a kind of model in OpenCLIP's layout": r"\bOpenClipTowers\b|\bImageTower\b",
    "a quantization recipe": r"^quantize:",
    "an engine target": r"\bTorchFp8\b",
    "a source of data": r"\bWebDataset\b",
    "a parameter of `optimize` (a key of its files), or its default": r"\bsufficiency: (bool|Annotated)",
    "a step": r"\bfp16_range\b|\bfp16-range\b",
    "a command": r'\bshow_doctor\b|\bdoctor,$|"doctor"|^class Check:',
}
"""By the map's words for what one may add: what the files of one that is there already have of it."""
TOLD_IN_TESTS = ("tests/docs/documents.py", "tests/flows/expected_steps.py", "tests/tasks/families/support.py")


@pytest.mark.parametrize("change", ADDED)
def test_for_what_is_added_the_map_names_all_the_files_that_it_touches(change: str) -> None:
    (places,) = re.findall(rf"^\| {re.escape(change)} \| (.+) \|$", PAGE, re.MULTILINE)
    named = [ROOT / path for path in re.findall(r"`([\w./]+/[\w./]*)`", places)]
    sources = [path for top in TOPS for path in (ROOT / top).rglob("*.*") if path.suffix in (".py", ".yaml", ".html")]
    touched = [
        path
        for path in (*sources, *(ROOT / told for told in TOLD_IN_TESTS))
        if re.search(ADDED[change], path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert [path for path in touched if not any(path.is_relative_to(place) for place in named)] == []
    assert [place for place in named if not any(path.is_relative_to(place) for path in touched)] == []
