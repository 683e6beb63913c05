"""How the command line writes for people."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
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
from rich.table import Table
from rich.text import Text

from artifacts.errors import ClipsmithError

_WIDTH = 150  # where there is no terminal to ask
_ROOMY = 130
_REJECTED = re.compile(r"(?<= )rejected(?= )")


def stdout() -> Console:
    """The console for results."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)


def stderr() -> Console:
    """The console for errors and progress."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_error(error: ClipsmithError) -> None:
    """An expected error, on stderr."""
    stderr().print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}")


def print_errors(errors: Iterable[ClipsmithError]) -> None:
    """Several of them."""
    for error in errors:
        print_error(error)


def plain_table(title: str | None, *columns: str, whole: tuple[str, ...] = ()) -> Table:
    """A table without lines; a column whose name starts with `>` is right-aligned, those in `whole` are cut last."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="right" if column.startswith(">") else "left", no_wrap=name in whole)
    return table


def print_list(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], *, gap: int = 2) -> None:
    """Aligned lines that are never cut: a thousand of them are slow as a table. `heads` as in `plain_table`; a head may
    have two lines."""
    names = [head.removeprefix(">").split("\n") for head in heads]
    deepest = max(map(len, names))
    tops = [[""] * (deepest - len(name)) + name for name in names]
    lines = [*zip(*tops, strict=True), *rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    text = Text()
    for number, line in enumerate(lines):
        cells = []
        for head, width, cell in zip(heads, widths, line, strict=True):
            room = " " * (width - cell_len(cell))
            cells.append(f"{room}{cell}" if head.startswith(">") else f"{cell}{room}")
        text.append((" " * gap).join(cells).rstrip() + "\n", style="bold" if number < deepest else None)
    text.highlight_regex(_REJECTED, "red")
    console.print(text, soft_wrap=True, end="")


def is_wide(console: Console) -> bool:
    """Whether there is room for what is nice to have."""
    return console.width >= _ROOMY


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr over `total` bytes, if that is known; the function is told how many are done with."""
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda size: bar.advance(task, size)


@contextmanager
def counting(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """The same over `total` things; where their number is not known, how long it takes so far. On a terminal alone."""
    console = stderr()
    rest = (TimeElapsedColumn(),) if total is None else (MofNCompleteColumn(), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *rest)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(what), total=total)
        yield lambda number: bar.advance(task, number)
