"""What `targets`, `recipes` and `gates` print for people, in lines that a terminal of 100 columns takes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.printing.console import Terminal, print_list, stdout

if TYPE_CHECKING:
    from artifacts.report.gate_words import GateKind
    from tasks.engines.available import Standing

WIDTH = 96  # characters of a line, with its indent


def print_targets(found: Sequence[Standing]) -> None:
    """A line for each, and below them every reason why not, once."""
    console = stdout()
    reasons: dict[str, dict[str, list[str]]] = {}
    rows = []
    for each in found:
        answers = {"not built": each.why_not_build, "not run": each.why_not_run, "no FP8": each.why_no_fp8}
        rows.append((each.target, each.about, *("no" if why else "yes" for why in answers.values())))
        for what, why in answers.items():
            if why is not None:
                reasons.setdefault(why, {}).setdefault(each.target, []).append(what)
    print_list(console, ("target", "what it is", "built here", "run here", "FP8"), rows)
    for why, of in reasons.items():
        console.print()
        _paragraph(console, f"{why}:", indent=0)
        _paragraph(console, "; ".join(f"{target} ({', '.join(what)})" for target, what in of.items()))


def print_recipes(found: Iterable[tuple[str, str, Path]]) -> None:
    """Each with its description, and its file to copy."""
    console = stdout()
    for name, about, path in found:
        console.say((name, "bold"))
        _paragraph(console, about)
        console.say(f"    {path}")


def print_gate_kinds(found: Iterable[GateKind]) -> None:
    """Each with what it holds and what it asks for unless told otherwise."""
    console = stdout()
    for each in found:
        asked = "not judged unless given" if each.default is None else f"{each.side} {each.default:g} unless given"
        console.say((each.name, "bold"), f"  {each.unit}, {asked if each.key else 'always 0'}")
        _paragraph(console, each.holds)
        _paragraph(console, f"needs {each.needs}" + (f"; key `{each.key}`" if each.key else ""))
    console.print()
    console.say("In a variant the keys lie under `parameters`; `clipsmith judge` takes a file with them.")


def _paragraph(console: Terminal, text: str, indent: int = 4) -> None:
    for line in textwrap.wrap(text, WIDTH - indent, break_on_hyphens=False):
        console.say(" " * indent + line)
