"""The output of `doctor`: a line for each check, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployments.printing.console import paragraph, stdout, wrapped

_COLUMN, _INDENT = 12, 20  # characters: the width of names, and the indent of findings


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, what was found, and what to do about it.

    `needed`: `clipsmith optimize` cannot run here unless it passes.
    """

    name: str
    ok: bool
    found: str
    needed: bool
    next: str | None = None


def print_checks(checks: Sequence[Check]) -> None:
    """Print a line for each check, with advice below it, and a summary in the last line."""
    console = stdout()
    for each in checks:
        state = ("ok", "green") if each.ok else ("not ok", "red" if each.needed else "yellow")
        first, *rest = wrapped(each.found, _INDENT)
        console.say(state, " " * (8 - len(state[0])), (f"{each.name:<{_COLUMN}}", "bold"), first)
        for line in rest:
            console.say(" " * _INDENT, line)
        if each.next is not None:
            paragraph(console, f"next: {each.next}", _INDENT)
    wrong = [each.name for each in checks if each.needed and not each.ok]
    console.print()
    if wrong:
        console.say(("`clipsmith optimize` cannot run here", "red"), f": {', '.join(wrong)}")
    else:
        console.say(("`clipsmith optimize` can run here", "green"))
