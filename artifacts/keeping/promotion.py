"""Moving aliases: promote a release, roll back to the one before."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Literal, NamedTuple

from artifacts.errors import AliasMoved, ConfigError, DamagedAlias, NothingToRollBack, ReleaseRejected
from artifacts.limits import LARGEST_NUMBER
from artifacts.manifest import Manifest
from artifacts.names import check_alias
from artifacts.records import dump
from artifacts.store import aliases, layout
from artifacts.store.aliases import AliasEntry
from artifacts.store.policy import read_policy
from artifacts.store.release_check import check_release
from artifacts.store.signatures import require_signature
from artifacts.store.store import Store
from artifacts.store.who import current_user


class Move(NamedTuple):
    """What a promotion or rollback did; `moved` is False when the alias pointed there already."""

    before: AliasEntry | None
    after: AliasEntry
    moved: bool


def promote(
    store: Store, reference: str, alias: str, *, force: bool = False, why: str | None = None, seen: int | None = None
) -> Move:
    """Point `alias` of the release's model to the release.

    `seen` is the number of the alias's entry that the caller's decision was based on (0: there was no alias); None
    means the current one. `force` promotes a rejected release, and needs `why`.

    Raises:
        ReleaseNotFound, ObjectMissing, ObjectDamaged: there is no such release, or it is not what was published.
        ReleaseDiffers, TableError: it is not what it says it is.
        ReleaseRejected: it failed a gate and `force` is not set.
        SignatureRequired: the store's policy asks for a signature; force does not help.
        AliasMoved: somebody else moved the alias first.
        ConfigError: `force` without `why`.
    """
    check_alias(alias)
    if force and not why:
        raise ConfigError("a forced promotion needs a reason", expected="--why TEXT", fix="say why in --why")
    with store.reading():
        manifest = store.find(reference)
        if manifest.rejected and not force:
            failed = ", ".join(result.name for result in manifest.gates if result.rejects)
            raise ReleaseRejected(
                f"{manifest.ref} was rejected: {failed}",
                where=store.root,
                expected="a release whose gates hold",
                fix="promote another release, or give --force with --why TEXT",
            )
        return _move(store, manifest, alias, "promote", forced=manifest.rejected, why=why, seen=seen)


def rollback(store: Store, model: str, alias: str, *, to: int | None = None, why: str | None = None) -> Move:
    """Point `alias` of `model` back to the release it pointed to before its last promotion that is not undone yet.

    `to` names an earlier version instead: every promotion since the alias pointed there is undone.

    Raises:
        AliasNotFound, NothingToRollBack, ReleaseNotFound, SignatureRequired, AliasMoved, DamagedAlias.
        ObjectMissing, ObjectDamaged.
    """
    store.refresh()
    with store.reading():
        entries = aliases.history(store.root, model, alias)
        if to == entries[-1].version:
            return Move(entries[-1], entries[-1], moved=False)
        *earlier, _ = aliases.standing(entries)
        target = next((entry for entry in reversed(earlier) if to in (None, entry.version)), None)
        if target is None:
            others = ", ".join(dict.fromkeys(entry.ref for entry in reversed(earlier)))
            only = f"has pointed to nothing but {entries[-1].ref}"
            raise NothingToRollBack(
                f"{model}:{alias} {only if to is None else f'cannot go back to {model}@{to}'}",
                where=layout.alias_folder(store.root, model, alias),
                expected=f"one of: {others}" if others else None,
                fix=f"promote the release that it should point to: `clipsmith promote {model}@VERSION --alias {alias}`",
            )
        manifest = store.find(target.ref)
        seen = entries[-1].number
        return _move(store, manifest, alias, "rollback", forced=target.forced, why=why, seen=seen)


def _move(
    store: Store,
    manifest: Manifest,
    alias: str,
    action: Literal["promote", "rollback"],
    *,
    forced: bool,
    why: str | None,
    seen: int | None,
) -> Move:
    store.prove(manifest)
    check_release(store, manifest)
    store.keep_record(layout.manifest_path(store.root, manifest.model, manifest.version))
    keys = read_policy(store.root).promotion.require_signature
    if keys:
        require_signature(store, manifest, [store.root / key for key in keys])
    folder = layout.alias_folder(store.root, manifest.model, alias)
    known = layout.numbers(folder)
    last = known[-1] if known else 0
    before = _before(store, manifest.model, alias, last)
    if last == LARGEST_NUMBER:
        raise DamagedAlias(
            f"{manifest.model}:{alias} has an entry with the largest possible number",
            where=folder / f"{last}.json",
            fix="find out who put it there (`clipsmith aliases --history`), and use another alias",
        )
    if seen is not None and seen != last:
        raise _moved(folder, before)
    digest = hashlib.sha256(manifest.to_bytes()).hexdigest()
    if action == "promote" and before is not None and (before.version, before.manifest) == (manifest.version, digest):
        store.keep_record(folder / f"{before.number}.json")
        return Move(before, before, moved=False)
    entry = AliasEntry(
        model=manifest.model,
        alias=alias,
        number=last + 1,
        action=action,
        version=manifest.version,
        manifest=digest,
        who=current_user(),
        why=why,
        forced=forced,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    try:
        store.write_record(folder / f"{entry.number}.json", dump(entry))
    except FileExistsError:
        raise _moved(folder, _before(store, manifest.model, alias, entry.number)) from None
    return Move(before, entry, moved=True)


def _before(store: Store, model: str, alias: str, number: int) -> AliasEntry | None:
    """The current entry; None if it is damaged, so that the alias can still be pointed elsewhere."""
    try:
        return aliases.read(store.root, model, alias, number) if number else None
    except DamagedAlias:
        return None


def _moved(folder: Path, now: AliasEntry | None) -> AliasMoved:
    name, there = f"{folder.parent.name}:{folder.name}", f", to {now.ref}, by {now.who}" if now else ""
    return AliasMoved(
        f"{name} was moved meanwhile{there}",
        where=folder,
        expected="that nobody moves it while we do",
        fix=f"look at `clipsmith aliases`, and promote again if {folder.name} should still move",
    )
