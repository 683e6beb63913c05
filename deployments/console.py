"""How the command line writes for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from artifacts.errors import ClipsmithError

_WIDTH = 150  # where there is no terminal to ask


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


def plain_table(title: str | None, *columns: str) -> Table:
    """A table without lines; a column whose name starts with `>` is right-aligned."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table


def moment(created: str) -> str:
    """A time of ISO 8601 as people read it, to the minute."""
    return created[:16].replace("T", " ")
