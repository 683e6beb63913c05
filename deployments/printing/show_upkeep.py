"""Printing what verification, repair and garbage collection found and did."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from artifacts import fs
from artifacts import number_words as words
from artifacts.keeping.repair import Repaired, advice
from artifacts.store import layout
from artifacts.store.garbage import Collected
from artifacts.store.verification import Problem, Verification, tally
from deployments.printing.console import stdout


def verification_document(found: Verification, repaired: Repaired | None) -> dict[str, Any]:
    """What was found, and what a repair did, as JSON values."""
    document = {
        "sound": not found.problems,
        "problems": [asdict(problem) | {"next": advice(problem)} for problem in found.problems],
        **{name: getattr(found, name) for name in ("releases", "objects", "bytes", "seconds")},
    }
    if repaired is not None:
        document |= {"restored": list(repaired.restored), "quarantined": list(repaired.quarantined)}
    return document


def print_verification(found: Verification, repaired: Repaired | None) -> None:
    """Print every problem with advice, and a summary in the last line."""
    console = stdout()
    if repaired is not None:
        for digest in repaired.restored:
            console.say(("restored", "green"), f" object {digest[:12]}")
        for where in repaired.quarantined:
            console.say(("set aside", "yellow"), f" {where}, in quarantine/")
    for problem in found.problems:
        _print_problem(problem)
    looked = (
        f"{words.counted(found.releases, 'release')}, {words.counted(found.objects, 'object')}, "
        f"{words.megabytes(found.bytes)} hashed in {found.seconds:.1f} s"
    )
    if not found.problems:
        console.say(("sound", "green"), f": {looked}")
        return
    console.say(("not sound", "bold red"), f": {tally(found.problems)} ({looked})")


def _print_problem(problem: Problem) -> None:
    users = f" ({', '.join(problem.releases)})" if problem.releases else ""
    console = stdout()
    console.say((problem.kind, "red"), f" {problem.where}{users}")
    console.say(f"  {problem.what}")
    console.say(f"  next: {advice(problem)}")


def print_collected(found: Collected, planned_in: Path | None) -> None:
    """Print what was removed: releases by name, the rest as counts. With `planned_in`, the store's path, print what
    would be removed, all by name."""
    console = stdout()
    dry_run = planned_in is not None
    for ref in found.releases:
        console.say(f"{'would retire' if dry_run else 'retired'} {ref}")
    if planned_in is not None:
        for digest in found.objects:
            paths = list(fs.files_below(layout.object_folder(planned_in, digest)))
            names = ", ".join(sorted(path.name for path in paths)) or "empty"
            console.say(f"would remove object {digest[:12]}: {names}")
        for leftover in found.leftovers:
            console.say(f"would remove leftover {leftover}")
    counts = ((found.releases, "release"), (found.objects, "object"), (found.leftovers, "leftover"))
    what = ", ".join(words.counted(len(things), name) for things, name in counts)
    console.say(f"{'would remove' if dry_run else 'removed'} {what}: {words.megabytes(found.bytes)}")
