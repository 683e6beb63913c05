"""The output of `targets`, `recipes` and `gates` for people, for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.printing.console import paragraph, print_list, stdout

if TYPE_CHECKING:
    from artifacts.report.gate_words import GateKind
    from tasks.engines.available import Standing


def print_targets(found: Sequence[Standing]) -> None:
    """Print a line for each target, and below them each reason why one cannot be built or run, once."""
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
        paragraph(console, f"{why}:", indent=0)
        paragraph(console, "; ".join(f"{target} ({', '.join(what)})" for target, what in of.items()))


def print_recipes(found: Iterable[tuple[str, str, Path]]) -> None:
    """Print each recipe with its description, and its file, which can be copied."""
    console = stdout()
    for name, about, path in found:
        console.say((name, "bold"))
        paragraph(console, about)
        console.say(f"    {path}")


def print_gate_kinds(found: Iterable[GateKind]) -> None:
    """Print each gate with what it judges and its default bound."""
    console = stdout()
    for each in found:
        asked = "not judged unless given" if each.default is None else f"{each.side} {each.default:g} unless given"
        console.say((each.name, "bold"), f"  {each.unit}, {asked if each.key else 'always 0'}")
        paragraph(console, each.holds)
        paragraph(console, f"needs {each.needs}" + (f"; key `{each.key}`" if each.key else ""))
    console.print()
    console.say("In a variant the keys lie under `parameters`; `clipsmith judge` takes a file with them.")
