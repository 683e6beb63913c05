"""The output of `data`: the facts about a source, and whether a run would accept it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.text import Text

from artifacts.inert import visible
from deployments.printing.console import Terminal, line, stdout

if TYPE_CHECKING:
    from tasks.inspection.holdings import Holdings
    from tasks.inspection.words import Line

_COLUMN = 11  # characters: the width of the first column
_NARROWEST = 20


def print_data(found: Holdings) -> None:
    """Print a source in a dozen lines, and below them whether a run would accept it."""
    from tasks.inspection import words

    console = stdout()
    console.print(line((words.plain(found.source, 200), "bold"), f"  {words.headline(found)}"))
    _print_lines(console, words.lines(found))
    if not found.refusals:
        console.print(line(("taken".ljust(_COLUMN), "green"), "a run takes it, as far as headers tell"))
    for each in found.refusals:
        _print_lines(console, words.refusal(each, found), "red")
    if found.page is not None:
        console.say("page".ljust(_COLUMN) + found.page)


def _print_lines(console: Terminal, told: Iterable[Line], style: str = "") -> None:
    """Print lines with names in the first column; wrapped text stays in the second one, also on narrow terminals."""
    for name, words in told:
        text = words.lstrip(" ")
        left = _COLUMN + len(words) - len(text)
        for number, wrapped in enumerate(Text(visible(text)).wrap(console, max(console.width - left, _NARROWEST))):
            head = (name if number == 0 else "").ljust(left)
            console.say((head, style), wrapped.plain.rstrip())
