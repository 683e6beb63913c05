"""Aliases and their moves, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from artifacts.keeping.promotion import Move
from artifacts.number_words import moment
from artifacts.store.aliases import AliasEntry
from deployments.printing.console import plain_table, stdout


def entry_document(entry: AliasEntry) -> dict[str, Any]:
    """One move of an alias as JSON values."""
    return {"ref": entry.ref} | entry.model_dump(mode="json", exclude={"format"})


def move_document(move: Move) -> dict[str, Any]:
    """What a promotion or rollback did, as JSON values."""
    before = None if move.before is None else entry_document(move.before)
    return {"moved": move.moved, "before": before, "after": entry_document(move.after)}


def print_move(move: Move) -> None:
    """Print what a promotion or rollback did, in one line."""
    after = move.after
    if not move.moved:
        text = f" points to {after.ref} already"
    else:
        was = f" (before: {move.before.ref})" if move.before is not None else ""
        text = f" now points to {after.ref}{was}{', forced' if after.forced else ''}"
    stdout().say((f"{after.model}:{after.alias}", "bold"), text)


def print_aliases(entries: Sequence[AliasEntry]) -> None:
    """Print a line per entry."""
    table = plain_table(None, "alias", ">move", "to", "by", "when", "who", "why", whole=("alias", "to", "when"))
    for entry in entries:
        action = f"{entry.action}, forced" if entry.forced else entry.action
        name = f"{entry.model}:{entry.alias}"
        when = moment(entry.created)
        table.add_row(name, str(entry.number), f"@{entry.version}", action, when, entry.who, entry.why or "")
    stdout().print(table if entries else "no aliases yet: `clipsmith promote REF --alias NAME` makes one")
