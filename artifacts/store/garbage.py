"""Garbage collection: removes what no release, alias or living process needs, in an order that survives any crash."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from artifacts import fs, locks
from artifacts.errors import ConfigError
from artifacts.manifest import Manifest
from artifacts.records import dump
from artifacts.refs import digest_file
from artifacts.store import aliases, layout, results
from artifacts.store.store import Store
from artifacts.store.tombstones import Tombstone

WAIT_S = 60.0


@dataclass(frozen=True)
class Collected:
    """What a collection removed, or would remove: releases by name, objects by digest, leftovers, and bytes freed."""

    releases: tuple[str, ...]
    objects: tuple[str, ...]
    leftovers: tuple[str, ...]
    bytes: int


def collect(store: Store, *, keep: int | None = None, dry_run: bool = False, wait_s: float = WAIT_S) -> Collected:
    """Remove unreferenced objects and dead processes' leftovers; with `keep`, first retire all but each model's newest.

    Never removed: releases that an alias points to or would roll back to, and whatever a living process holds.

    Raises:
        ConfigError: `keep` below 1.
        StoreBusy: exports, copies or publishers held the store for all of `wait_s` seconds.
        DamagedManifest, DamagedAlias: it is unknown what is needed, so nothing is removed.
    """
    if keep is not None and keep < 1:
        raise ConfigError("gc must keep at least one release of each model", expected="--keep 1 or more")
    with store.alone(wait_s):
        releases = store.releases()
        living = locks.living(store.root / "leases")
        holds = frozenset().union(*living.values())
        retired = [] if keep is None else _to_retire(store, releases, keep, holds)
        gone = {manifest.ref for manifest in retired}
        used = {ref.digest for manifest in releases if manifest.ref not in gone for ref in manifest.objects()}
        present = sorted((store.root / "objects").glob("*/*"))
        objects = [path for path in present if path.name not in used | holds]
        left = {path.name for path in present} - {path.name for path in objects}
        identities = {manifest.identity for manifest in releases if manifest.ref not in gone}
        leftovers = [*_leftovers(store.root, living.keys(), holds), *results.unneeded(store, left, identities)]
        found = Collected(
            releases=tuple(manifest.ref for manifest in retired),
            objects=tuple(path.name for path in objects),
            leftovers=tuple(path.relative_to(store.root).as_posix() for path in leftovers),
            bytes=sum(_size(path) for path in (*objects, *leftovers)),
        )
        if not dry_run:
            for manifest in retired:
                _retire(store, manifest)
            _settle(store.root)
            for path in objects:
                trash = store.root / "staging" / f"trash-{uuid.uuid4().hex}"
                fs.move_away(path, trash)  # atomically: there is never a part of an object at its path
                fs.discard_tree(trash)
            for path in leftovers:
                if path.parent.name == "locks":
                    locks.remove_if_free(path)  # a step may have just locked it: steps do not hold the store
                else:
                    fs.discard_tree(path)
    return found


def _to_retire(store: Store, releases: list[Manifest], keep: int, holds: frozenset[str]) -> list[Manifest]:
    held = aliases.held(store.root)
    newest: dict[str, list[int]] = {}
    for manifest in releases:
        newest.setdefault(manifest.model, []).append(manifest.version)
    return [
        manifest
        for manifest in reversed(releases)
        if manifest.version not in sorted(newest[manifest.model])[-keep:]
        and (manifest.model, manifest.version) not in held
        and manifest.ref not in holds
    ]


def _retire(store: Store, manifest: Manifest) -> None:
    """Retire a release: first write its tombstone, then remove its manifest, so that its version is never free."""
    path = layout.manifest_path(store.root, manifest.model, manifest.version)
    tombstone = Tombstone(
        model=manifest.model,
        version=manifest.version,
        identity=manifest.identity,
        manifest=digest_file(path),
        created=manifest.created,
        retired=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    place = layout.tombstone_path(store.root, manifest.model, manifest.version)
    if not place.exists():  # if it exists, a collector was killed between the two steps
        store.write_record(place, dump(tombstone))
    fs.flush_folder(place.parent)
    fs.unlink(path)
    fs.flush_folder(path.parent)


def _settle(root: Path) -> None:
    """Make durable what a killed collector had retired or moved away: after a power loss a release must not come back
    once its objects are gone."""
    for folder in (*(root / "releases").iterdir(), *(root / "objects").iterdir()):
        if folder.is_dir():
            fs.flush_folder(folder)


def _leftovers(root: Path, living: AbstractSet[str], holds: AbstractSet[str]) -> Iterator[Path]:
    """Paths of leftovers: staging folders and unfinished work of ended processes, locks that nobody holds, quarantined
    things, signatures without a release."""
    for path in sorted((root / "staging").iterdir()):
        if path.name.partition("-")[0] not in living:
            yield path
    for path in sorted((root / "leases").iterdir()):
        if path.name not in living:
            yield path
    yield from sorted(path for path in (root / "locks").iterdir() if locks.is_free(path))
    yield from sorted((root / "quarantine").iterdir())
    yield from sorted(path for path in (root / "cache").glob("index.json.*"))
    yield from sorted((root / layout.REPORTS).glob("*"))
    yield from sorted(path for path in (root / layout.PARTIAL).glob("*") if path.name not in holds)
    for path in sorted((root / "signatures").glob("*/*")):
        if path.name.isdecimal() and not layout.manifest_path(root, path.parent.name, int(path.name)).exists():
            yield path


def _size(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return sum(_size(file) for file in fs.files_below(path))
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # its owner removed it
        return 0
