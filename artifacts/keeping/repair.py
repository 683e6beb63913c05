"""Repair: restore what can be restored without running anything; move the rest aside and name it."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from artifacts import fs, locks
from artifacts.errors import ObjectDamaged, ObjectMissing, StoreError
from artifacts.keeping import render
from artifacts.manifest import Manifest
from artifacts.refs import ArtifactRef, digest_file
from artifacts.store import layout
from artifacts.store.store import Store, describe
from artifacts.store.verification import Contents, Problem, Verification, look_through


@dataclass(frozen=True)
class Repaired:
    """What was done: objects restored (by digest), things moved to quarantine, and what is still wrong."""

    restored: tuple[str, ...]
    quarantined: tuple[str, ...]
    after: Verification


def repair(store: Store) -> Repaired:
    """Restore damaged and missing objects from equal files elsewhere in the store, or by deriving them again.

    The rest is moved to `quarantine/`, so that the next run makes it anew, or `clipsmith pull` copies it again. Damaged
    manifests, aliases and signatures stay where they are: only a copy of the store has them.

    Raises:
        StoreReadOnly, DiskFull.
    """
    restored: list[str] = []
    quarantined: list[str] = []
    with locks.exclusive(store.root / layout.PUBLISH_LOCK):
        before, releases, contents = look_through(store)
        lost = (problem.object for problem in before.problems if problem.object and problem.kind != "unexpected")
        for digest in dict.fromkeys(lost):
            owner = next((m for m in releases if any(ref.digest == digest for ref in m.objects())), None)
            if owner is not None and _restore(store, owner, digest, contents):
                restored.append(digest)
            else:
                quarantined += _set_aside_if_damaged(store, digest)
        for problem in before.problems:
            if problem.kind == "unexpected":
                quarantined += _set_aside(store, store.root / problem.where)
    after = look_through(store)[0] if before.problems else before
    return Repaired(tuple(restored), tuple(quarantined), after)


def advice(problem: Problem) -> str:
    """What a user can do about a problem that repair could not solve."""
    if problem.object is not None and problem.releases:
        return f"run `clipsmith optimize` again, or `clipsmith pull {problem.releases[0]} URL` from a copy"
    if problem.where.startswith("aliases/"):
        return "promote the release that the alias should point to"
    return "restore it from a copy of the store"


def _restore(store: Store, manifest: Manifest, digest: str, contents: Contents) -> bool:
    ref = next(ref for ref in manifest.objects() if ref.digest == digest)
    with store.staging() as folder:
        if not _collect(store, ref, contents, folder):
            kinds = render.file_kinds(manifest, digest) & {render.TABLES, render.REPORT}
            if not kinds or not _derive(store, manifest, kinds.pop(), folder):
                return False
        if describe(ref.kind, folder).digest != digest:  # derived with other packages: not the same bytes
            return False
        store.add(ref.kind, folder)
    return True


def _collect(store: Store, ref: ArtifactRef, contents: Contents, folder: Path) -> bool:
    """Copy the object's files from wherever equal ones are in the store; return whether all were found."""
    places = {
        entry.sha256: layout.object_folder(store.root, digest) / member
        for digest, entries in contents.entries.items()
        for member, entry in entries.items()
    }
    for entry in ref.files:
        if entry.sha256 not in places:
            fs.discard_tree(folder)
            fs.make_folder(folder)
            return False
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(places[entry.sha256], target)
        if digest_file(target) != entry.sha256:
            return False
    return True


def _derive(store: Store, manifest: Manifest, kind: str, folder: Path) -> bool:
    try:
        render.render(store, manifest, kind, folder)
    except (ObjectDamaged, ObjectMissing):
        return False
    return True


def _set_aside_if_damaged(store: Store, digest: str) -> list[str]:
    """Move an object to quarantine if it is still damaged: another process may have replaced it meanwhile."""
    folder = layout.object_folder(store.root, digest)
    with locks.exclusive(store.root / "quarantine"):
        try:
            sound = describe("", folder).digest == digest
        except (StoreError, OSError, ValueError):
            sound = False
        return [] if sound else _set_aside(store, folder)


def _set_aside(store: Store, path: Path) -> list[str]:
    if not path.exists() and not path.is_symlink():
        return []
    with store.reading():
        fs.move_away(path, store.root / "quarantine" / f"{path.name}-{uuid.uuid4().hex}")
    return [path.relative_to(store.root).as_posix()]
