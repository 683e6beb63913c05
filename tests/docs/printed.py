"""Every command line and Python block that README and docs print, in order; `python -m tests.docs.printed` lists them.

Lines are those of indented blocks, and code in sentences that has arguments. All are run (`test_printed.py`), but for
those that a comment of their page names, by how they begin: `<!-- not run by the tests: LINE, LINE (why) -->`, and
`<!-- run by make test-heavy: LINE -->` for slow ones. The comment is not seen where the page is read.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
Fate = Literal["run", "heavy", "not run"]

_NOT_RUN = re.compile(r"<!-- not run by the tests: ([^(]+) \(([^)]+)\) -->")
_HEAVY = re.compile(r"<!-- run by make test-heavy: (.+?) -->")
_PROGRAM = re.compile(r" {4}[a-z.][\w./-]*(?=\s)")
_BLOCK = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
_OPTION = re.compile(r"\[?--[a-z]")
_INLINE = re.compile(
    r"`((?:\.venv/bin/)?(?:clipsmith [a-z-]+ \S|(?:python3?|prefect|docker|openssl|pip|cp|source|export|make) )[^`]*)`"
)
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Printed:
    """One of them: what is printed, without the words beside it, and what becomes of it."""

    page: str
    at: int
    kind: Literal["line", "python"]
    text: str
    fate: Fate = "run"
    why: str = ""


@dataclass(frozen=True)
class Mark:
    """What a comment of a page says of the lines that begin so."""

    begins: str
    fate: Fate
    why: str


def name_of(path: Path) -> str:
    """How tests call a page."""
    return path.relative_to(ROOT).as_posix()


def marks(path: Path) -> list[Mark]:
    """The comments of a page."""
    text = path.read_text(encoding="utf-8")
    found = [Mark(line, "not run", why) for lines, why in _NOT_RUN.findall(text) for line in lines.split(", ")]
    return found + [Mark(line, "heavy", "slow") for lines in _HEAVY.findall(text) for line in lines.split(", ")]


def printed(path: Path) -> list[Printed]:
    """All of a page in the order in which it is read."""
    text = path.read_text(encoding="utf-8")
    said = marks(path)
    found = [*_blocks(text), *_lines(_FENCE.sub(lambda fence: re.sub(r"[^\n]", " ", fence[0]), text))]
    return [_with_fate(name_of(path), said, *each) for each in sorted(found)]


def _with_fate(page: str, said: list[Mark], at: int, kind: Literal["line", "python"], text: str) -> Printed:
    for mark in said:
        if kind == "line" and text.startswith(mark.begins):
            return Printed(page, at, kind, text, mark.fate, mark.why)
    return Printed(page, at, kind, text)


def _blocks(text: str) -> Iterator[tuple[int, Literal["line", "python"], str]]:
    for fence in _FENCE.finditer(text):
        if fence[2] == "python":
            yield fence.start(), "python", textwrap.dedent(fence[3])


def _lines(text: str) -> Iterator[tuple[int, Literal["line", "python"], str]]:
    """Lines of indented blocks with their continuations, and code in sentences."""
    for block in _BLOCK.finditer(text):
        found: list[tuple[int, str]] = []
        for line in re.finditer(r".+\n", block[0]):
            words = _command(line[0])
            if is_command(line[0]):
                found.append((block.start() + line.start(), words))
            elif found and _OPTION.match(words):
                found[-1] = (found[-1][0], f"{found[-1][1]} {words}")
        yield from ((at, "line", words) for at, words in found)
    for code in _INLINE.finditer(_BLOCK.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)):
        yield code.start(), "line", " ".join(code[1].split())


def is_command(line: str) -> bool:
    """Whether a line of a block begins with a program; what is indented deeper are words beside a line."""
    return _PROGRAM.match(line) is not None


def _command(line: str) -> str:
    """What is typed: without a comment, and without the words that stand in a column beside it."""
    return re.split(r"\s{2,}|\s+# ", line.strip())[0]


def everything() -> list[Printed]:
    """All pages."""
    return [each for path in PAGES for each in printed(path)]


if __name__ == "__main__":
    for each in everything():
        first = each.text.strip().splitlines()[0]
        print(f"{each.page:<28} {each.fate:<8} {first}{f'  ({each.why})' if each.fate == 'not run' else ''}")
