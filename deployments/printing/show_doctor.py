"""What `doctor` prints: a line for each check, and what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from artifacts.inert import visible
from deployments.printing.console import stdout

_COLUMN, _INDENT, _WIDTH = 12, 20, 98  # characters: of a name, before what was found, of a line


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it is as it should be, what was found, and what to do about it.

    `needed`: without it `clipsmith optimize` cannot run here.
    """

    name: str
    ok: bool
    found: str
    needed: bool
    next: str | None = None


def print_checks(checks: Sequence[Check]) -> None:
    """A line for each, what to do below it, and the sum of it in the last line."""
    console = stdout()
    for each in checks:
        state = ("ok", "green") if each.ok else ("not ok", "red" if each.needed else "yellow")
        first, *rest = _lines(each.found)
        console.say(state, " " * (8 - len(state[0])), (f"{each.name:<{_COLUMN}}", "bold"), first)
        for line in [*rest, *([] if each.next is None else _lines(f"next: {each.next}"))]:
            console.say(" " * _INDENT, line)
    wrong = [each.name for each in checks if each.needed and not each.ok]
    console.print()
    if wrong:
        console.say(("`clipsmith optimize` cannot run here", "red"), f": {', '.join(wrong)}")
    else:
        console.say(("`clipsmith optimize` can run here", "green"))


def _lines(text: str) -> list[str]:
    """Of a width that fits; words that are longer stay whole, as paths do."""
    return textwrap.wrap(visible(text), _WIDTH - _INDENT, break_long_words=False, break_on_hyphens=False) or [""]
