"""What verification, repair and garbage collection found and did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from artifacts import number_words as words
from artifacts.keeping.repair import Repaired, advice
from artifacts.store.garbage import Collected
from artifacts.store.verification import Problem, Verification, tally
from deployments.printing.console import stderr, stdout


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A sign of life on stderr."""
    with stderr().status(what):
        yield


def verification_document(found: Verification, repaired: Repaired | None) -> dict[str, Any]:
    """What was found, and with a repair what it did."""
    document = {
        "sound": not found.problems,
        "problems": [asdict(problem) | {"next": advice(problem)} for problem in found.problems],
        **{name: getattr(found, name) for name in ("releases", "objects", "bytes", "seconds")},
    }
    if repaired is not None:
        document |= {"restored": list(repaired.restored), "quarantined": list(repaired.quarantined)}
    return document


def print_verification(found: Verification, repaired: Repaired | None) -> None:
    """Every problem with what to do about it, and the sum of it in the last line."""
    console = stdout()
    if repaired is not None:
        for digest in repaired.restored:
            console.print(f"[green]restored[/] object {digest[:12]}", soft_wrap=True)
        for where in repaired.quarantined:
            console.print(f"[yellow]set aside[/] {escape(where)}, in quarantine/", soft_wrap=True)
    for problem in found.problems:
        _print_problem(problem)
    looked = (
        f"{words.counted(found.releases, 'release')}, {words.counted(found.objects, 'object')}, "
        f"{words.megabytes(found.bytes)} hashed in {found.seconds:.1f} s"
    )
    if not found.problems:
        console.print(f"[green]sound[/]: {looked}", soft_wrap=True)
        return
    console.print(f"[bold red]not sound[/]: {tally(found.problems)} ({looked})", soft_wrap=True)


def _print_problem(problem: Problem) -> None:
    users = f" ({', '.join(problem.releases)})" if problem.releases else ""
    console = stdout()
    console.print(f"[red]{problem.kind}[/] {escape(problem.where)}{users}", soft_wrap=True)
    console.print(f"  {escape(problem.what)}\n  next: {escape(advice(problem))}", soft_wrap=True)


def collected_document(found: Collected, dry_run: bool) -> dict[str, Any]:
    """What went, or would go."""
    return {"dry_run": dry_run} | asdict(found)


def print_collected(found: Collected, dry_run: bool) -> None:
    """What went, or would go: the releases by name, the rest by number."""
    console = stdout()
    for ref in found.releases:
        console.print(f"{'would retire' if dry_run else 'retired'} {ref}", soft_wrap=True)
    counts = ((found.releases, "release"), (found.objects, "object"), (found.leftovers, "leftover"))
    what = ", ".join(words.counted(len(things), name) for things, name in counts)
    console.print(f"{'would remove' if dry_run else 'removed'} {what}: {words.megabytes(found.bytes)}", soft_wrap=True)
