"""Aliases: names that move from release to release. Each move is one immutable, numbered entry; the last one counts.

An entry is created under the next free number. Only one process can create it, which makes the move a compare-and-swap.
The entries are the alias's history.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from artifacts.errors import AliasNotFound, DamagedAlias
from artifacts.models import Frozen
from artifacts.names import AliasName, ModelName, Number
from artifacts.records import parse, read_bytes
from artifacts.refs import Sha256
from artifacts.store import layout
from artifacts.times import IsoTime


class AliasEntry(Frozen):
    """One move: the alias points to `version`, whose manifest's bytes have the sha256 `manifest`.

    A `forced` move was made although a gate had failed or a signature was missing; `why` is the reason given.
    """

    format: Literal[1] = 1
    model: ModelName
    alias: AliasName
    number: Number
    action: Literal["promote", "rollback"]
    version: Number
    manifest: Sha256
    who: str
    why: str | None
    forced: bool
    created: IsoTime

    @property
    def ref(self) -> str:
        """The release it points to, as `model@version`."""
        return f"{self.model}@{self.version}"


def names(root: Path) -> list[tuple[str, str]]:
    """Every (model, alias) of a store."""
    folders = [path for model in layout.listed(root / "aliases") for path in layout.listed(model)]
    return [(path.parent.name, path.name) for path in folders if layout.numbers(path)]


def read(root: Path, model: str, alias: str, number: int) -> AliasEntry:
    """One entry.

    Raises:
        DamagedAlias: it cannot be read, or belongs to another path.
    """
    path = layout.alias_folder(root, model, alias) / f"{number}.json"
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedAlias(f"an entry of the alias cannot be read: {error.strerror}", where=path) from error
    entry = parse(AliasEntry, data, where=path, error=DamagedAlias, what="an entry of the alias")
    if (entry.model, entry.alias, entry.number) != (model, alias, number):
        raise DamagedAlias(f"the entry of {entry.model}:{entry.alias} is not in its place", where=path)
    return entry


def current(root: Path, model: str, alias: str) -> AliasEntry:
    """The entry that counts.

    Raises:
        AliasNotFound: the model has no such alias.
        DamagedAlias: the entry cannot be read.
    """
    known = layout.numbers(layout.alias_folder(root, model, alias))
    if not known:
        others = ", ".join(f"{m}:{a}" for m, a in names(root)) or "none"
        raise AliasNotFound(
            f"{model} has no alias {alias!r}",
            where=root / "aliases",
            expected=f"one of: {others}",
            fix=f"`clipsmith promote {model}@VERSION --alias {alias}` makes it",
        )
    return read(root, model, alias, known[-1])


def history(root: Path, model: str, alias: str) -> list[AliasEntry]:
    """Every entry, oldest first.

    Raises:
        AliasNotFound, DamagedAlias.
    """
    last = current(root, model, alias).number
    known = layout.numbers(layout.alias_folder(root, model, alias))
    if len(known) < last:
        lost = next(number for number in range(1, last) if number not in known)
        folder = layout.alias_folder(root, model, alias)
        raise DamagedAlias(f"entry {lost} of {model}:{alias} is missing", where=folder)
    return [read(root, model, alias, number) for number in known]


def standing(entries: Sequence[AliasEntry]) -> list[AliasEntry]:
    """The promotions that no rollback has undone, oldest first. The alias points to the last one's release; rollbacks
    go back to earlier ones. A rollback undoes promotions from the end until the last one is that of its own release."""
    stack: list[AliasEntry] = []
    for entry in entries:
        if entry.action == "promote":
            stack.append(entry)
            continue
        stack.pop()
        while stack and stack[-1].version != entry.version:
            stack.pop()
    return stack


def rollback_target(entries: Sequence[AliasEntry]) -> AliasEntry | None:
    """The entry whose release a rollback goes back to: the one before the last promotion that is not undone yet."""
    stack = standing(entries)
    return stack[-2] if len(stack) > 1 else None


def held(root: Path) -> dict[tuple[str, int], list[str]]:
    """The releases that aliases point to or can roll back to, as (model, version), with the aliases' names.

    Raises:
        DamagedAlias: an entry cannot be read, so the releases that its alias needs are unknown.
    """
    found: dict[tuple[str, int], list[str]] = {}
    for model, alias in names(root):
        entries = history(root, model, alias)
        for entry in (entries[-1], rollback_target(entries)):
            if entry is not None:
                found.setdefault((model, entry.version), []).append(alias)
    return found


def pointing_to(root: Path) -> dict[tuple[str, int], list[str]]:
    """The aliases that point to each release; damaged aliases are left out (`verify` reports them)."""
    found: dict[tuple[str, int], list[str]] = {}
    for model, alias in names(root):
        try:
            entry = current(root, model, alias)
        except DamagedAlias:
            continue
        found.setdefault((model, entry.version), []).append(alias)
    return found
