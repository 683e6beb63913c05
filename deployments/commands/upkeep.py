"""Commands that keep a store sound and small."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from artifacts import fs
from artifacts.copies.opening import open_store
from artifacts.exit_codes import ExitCode
from artifacts.keeping.repair import Repaired, repair
from artifacts.store.garbage import collect
from artifacts.store.verification import Verification
from artifacts.store.verification import verify as look
from deployments.commands import panels
from deployments.commands.options import JsonOption, StoreOption, answer, open_to_change, store_path
from deployments.printing import show_upkeep
from deployments.printing.console import progress, stderr

app = typer.Typer()


@app.command(rich_help_panel=panels.KEEP)
def verify(
    mend: Annotated[
        bool, typer.Option("--repair", help="Restore what can be restored, and set the rest aside.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hash every object and read every record again. Names what is missing or damaged, and then exits with 1."""
    root = store_path(store)
    repaired: Repaired | None = None
    with progress("hashing", _bytes_below(root / "objects")) as advance:
        found: Verification = look(root, advance)
    if mend and found.problems:
        with stderr().status("repairing"):
            repaired = repair(open_store(root))
        found = repaired.after
    answer(as_json, show_upkeep.verification_document(found, repaired), show_upkeep.print_verification, found, repaired)
    raise typer.Exit(ExitCode.FAILED if found.problems else ExitCode.DONE)


@app.command(rich_help_panel=panels.KEEP)
def gc(
    keep: Annotated[
        int | None, typer.Option(help="Keep this many releases of each model, the newest, and those with an alias.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, each by its name.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what no release, alias or running process needs."""
    opened = open_to_change(store)
    found = collect(opened, keep=keep, dry_run=dry_run)
    document = {"dry_run": dry_run} | asdict(found)
    answer(as_json, document, show_upkeep.print_collected, found, opened.root if dry_run else None)


def _bytes_below(folder: Path) -> int:
    """The bytes of all files below a folder; files that a collector removes meanwhile are skipped."""
    total = 0
    for path in fs.files_below(folder):
        with suppress(FileNotFoundError):
            total += path.lstat().st_size
    return total
