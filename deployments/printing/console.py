"""Terminal output for people: only our own code sets styles, and text is always shown literally."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from artifacts.errors import ClipsmithError
from artifacts.inert import visible

Part = str | tuple[str, str]
"""A part of a line: a text, or (text, style)."""
_WIDTH = 150  # columns, if standard output is not a terminal, and COLUMNS says nothing
_ROOMY = 130
_PARAGRAPH = 98  # characters per line of sentences
_WHAT = TextColumn("{task.description}", markup=False)
_REJECTED = re.compile(r"(?<= )rejected(?= )")


class Terminal(Console):
    """A console that interprets nothing in its texts: no markup, no names of emojis, no terminal escapes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def say(self, *parts: Part) -> None:
        """Print the parts as one line of any length."""
        self.print(line(*parts), soft_wrap=True)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text harmless, before its width is measured."""
        return super().render_str(visible(text, lines=True), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Make everything that is printed harmless; control segments are rich's own, such as for a progress bar."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text, lines=True))


class Lines(Table):
    """A table whose cells are single lines of harmless text."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row."""
        super().add_row(*(visible(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def line(*parts: Part) -> Text:
    """One line made of texts or (text, style)."""
    pairs = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((visible(text), style) for text, style in pairs))


def stdout() -> Terminal:
    """The console for results: as wide as the terminal, also through a pipe to a pager, or as COLUMNS says."""
    told = "COLUMNS" in os.environ or any(map(os.isatty, range(3)))
    return Terminal(width=None if told else _WIDTH)


def stderr() -> Terminal:
    """The console for errors and progress."""
    return Terminal(stderr=True, soft_wrap=True)


def print_error(error: ClipsmithError) -> None:
    """Print an expected error on stderr."""
    stderr().print(Text.assemble((type(error).__name__, "bold red"), f": {error}"))


def print_errors(errors: Iterable[ClipsmithError]) -> None:
    """Print several expected errors on stderr."""
    for error in errors:
        print_error(error)


def plain_table(title: str | None, *columns: str, whole: tuple[str, ...] = ()) -> Lines:
    """A table without lines; a column whose name starts with `>` is right-aligned, those in `whole` are cut last. Other
    cells that have too little room go on in the next line."""
    table = Lines(
        title=None if title is None else visible(title),
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    for column in columns:
        name = visible(column.removeprefix(">"))
        table.add_column(
            name,
            justify="right" if column.startswith(">") else "left",
            no_wrap=name in whole,
            overflow="ellipsis" if name in whole else "fold",
        )
    return table


def print_list(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], *, gap: int = 2) -> None:
    """Print aligned lines that are never cut; for a thousand lines a `plain_table` would be slow. `heads` are as there,
    and may have two lines."""
    names = [head.removeprefix(">").split("\n") for head in heads]
    deepest = max(map(len, names))
    tops = [[""] * (deepest - len(name)) + name for name in names]
    lines = [*zip(*tops, strict=True), *(tuple(map(visible, row)) for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    text = Text()
    for number, cells_of in enumerate(lines):
        cells = []
        for head, width, cell in zip(heads, widths, cells_of, strict=True):
            room = " " * (width - cell_len(cell))
            cells.append(f"{room}{cell}" if head.startswith(">") else f"{cell}{room}")
        text.append((" " * gap).join(cells).rstrip() + "\n", style="bold" if number < deepest else None)
    text.highlight_regex(_REJECTED, "red")
    console.print(text, soft_wrap=True, end="")


def wrapped(text: str, indent: int, columns: int = _PARAGRAPH) -> list[str]:
    """Lines that fit `columns` behind an indent, and a terminal of 100 columns; words that are longer stay whole, as
    paths do."""
    width = max(min(_PARAGRAPH, columns) - indent, 1)
    return textwrap.wrap(visible(text), width, break_long_words=False, break_on_hyphens=False) or [""]


def paragraph(console: Terminal, text: str, indent: int = 4) -> None:
    """Print sentences, wrapped over several lines."""
    for each in wrapped(text, indent, console.width):
        console.say(" " * indent + each)


def is_wide(console: Console) -> bool:
    """Whether the terminal is wide enough for optional columns."""
    return console.width >= _ROOMY


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr over `total` bytes (None: unknown), if it is a terminal; yields a function to call
    with the number of newly finished bytes."""
    console = stderr()
    rest = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(_WHAT, BarColumn(), *rest, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda size: bar.advance(task, size)


@contextmanager
def counting(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """As `progress`, over `total` things; if their number is unknown, the elapsed time is shown."""
    console = stderr()
    rest = (TimeElapsedColumn(),) if total is None else (MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(_WHAT, BarColumn(), *rest, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(visible(what), total=total)
        yield lambda number: bar.advance(task, number)
