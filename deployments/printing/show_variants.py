"""The output of `init`, `variants check` and `nightly` for people."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artifacts.models import Complaint
from artifacts.nearest import meant
from deployments.printing.console import paragraph, print_list, stdout


def print_written(file: Path) -> None:
    """Print the file's path, and what to do next."""
    stdout().say(f"{file} is written")
    stdout().say(f"next: change it, then clipsmith variants check {shlex.quote(str(file))}")


def print_complaints(found: Mapping[Path, Sequence[Complaint]]) -> None:
    """Print a line for each file, and below it each error, with what was expected and what to do."""
    console = stdout()
    for file, complaints in found.items():
        state = ("not ok", "red") if complaints else ("ok", "green")
        console.say(state, " " * (8 - len(state[0])), str(file))
        for each in complaints:
            what = "there is no such key" if each.valid else each.what.removeprefix("Value error, ")
            paragraph(console, f"{each.key}: {what}" if each.key else what)
            expected = f"one of {', '.join(each.valid)}" if each.valid else each.expected
            fix = meant(each.nearest) or each.fix
            for name, text in (("expected", expected), ("next", fix)):
                if text:
                    paragraph(console, f"{name}: {text}", indent=8)


def print_outcomes(outcomes: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each variant; the error says why some failed."""
    rows = [(each["variant"], each["result"], each["release"] or "-", each["production"] or "-") for each in outcomes]
    print_list(stdout(), ("variant", "result", "release", "production"), rows)
    for each in outcomes:
        notes = {"made because": each["why"], "not promoted because": each["held"], "worse": "; ".join(each["alarms"])}
        for name, text in notes.items():
            if text:
                paragraph(stdout(), f"{each['variant']}: {name} {text}", indent=0)
