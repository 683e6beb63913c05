"""Verifying a store: is everything what was written? Objects are hashed, records parsed, references followed."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from artifacts import fs
from artifacts.errors import (
    ConfigError,
    DamagedAlias,
    DamagedLedger,
    DamagedManifest,
    DamagedSignature,
    ObjectDamaged,
    ObjectMissing,
    ReleaseDiffers,
    TableError,
)
from artifacts.manifest import Manifest
from artifacts.refs import ArtifactRef, FileEntry, digest_file
from artifacts.store import aliases, index, layout, ledger, signatures, tombstones
from artifacts.store.permissions import open_to_others
from artifacts.store.policy import read_policy
from artifacts.store.release_check import brought, check_release
from artifacts.store.store import Store

Kind = Literal["missing", "damaged", "unexpected"]
Progress = Callable[[int], None]
_LONG_GAP = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Problem:
    """One thing that is not what was written: its kind, its path below the store, and what is wrong.

    `object` is the digest of the object that has the problem, None for records; `releases` are those that use it.
    """

    kind: Kind
    where: str
    what: str
    object: str | None = None
    releases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """The outcome: the problems (none in a sound store), counts of what was checked, and the number of hashed bytes."""

    problems: tuple[Problem, ...] = ()
    releases: int = 0
    objects: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass
class Contents:
    """What the object folders really hold: for each object its files' digests, or why a file cannot be read."""

    entries: dict[str, dict[str, FileEntry]] = field(default_factory=dict)
    unreadable: dict[tuple[str, str], str] = field(default_factory=dict)
    unexpected: list[Path] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Bytes that were hashed."""
        return sum(entry.size for files in self.entries.values() for entry in files.values())


def tally(problems: Sequence[Problem]) -> str:
    """The number of problems of each kind, in words."""
    kinds = Counter(problem.kind for problem in problems)
    return ", ".join(f"{kinds[kind]} {kind}" for kind in ("missing", "damaged", "unexpected") if kinds[kind])


def verify(root: Path | str, progress: Progress | None = None) -> Verification:
    """Verify the store in `root`, with all cores.

    Leftovers are not damage: a store that was only half made, or whose processes were killed, is sound.

    Raises:
        NotAStore: the folder is no store, or its header is damaged.
    """
    root = Path(root).expanduser().absolute()
    if _half_made(root):
        return Verification()
    return look_through(Store.open(root, writable=False), progress)[0]


def look_through(store: Store, progress: Progress | None = None) -> tuple[Verification, list[Manifest], Contents]:
    """As `verify`, and also return the readable releases and the contents of the object folders."""
    started = time.perf_counter()
    root = store.root
    with store.reading():
        releases, problems = _manifests(store)
        problems += [*_records(root), *_ledger(root), *_policy(root), *_open(root)]
        contents = hash_objects(root, progress)
        problems += _objects(root, releases, contents)
    first = {problem.where: problem for problem in reversed(problems)}  # several checks may find the same thing
    found = Verification(
        problems=tuple(first[where] for where in sorted(first)),
        releases=len(releases),
        objects=len(contents.entries),
        bytes=contents.bytes,
        seconds=time.perf_counter() - started,
    )
    return found, releases, contents


def hash_objects(root: Path, progress: Progress | None = None) -> Contents:
    """Hash every file of every object on all cores, largest first; `progress` is called with each file's bytes."""
    contents = Contents()
    files: list[tuple[Path, str, str]] = []
    for folder in sorted(path for path in (root / "objects").glob("*/*")):
        in_place = _DIGEST.fullmatch(folder.name) and folder.parent.name == folder.name[:2]
        if not in_place or not folder.is_dir() or folder.is_symlink():
            contents.unexpected.append(folder)
            continue
        contents.entries[folder.name] = {}
        files += [(path, folder.name, path.relative_to(folder).as_posix()) for path in fs.files_below(folder)]
    contents.unexpected += [path for path in layout.listed(root / "objects") if not path.is_dir()]
    files.sort(key=lambda item: -item[0].lstat().st_size)

    def measure(item: tuple[Path, str, str]) -> None:
        path, digest, member = item
        size = path.lstat().st_size
        try:
            if path.is_symlink() or not path.is_file():
                contents.unexpected.append(path)
                return
            contents.entries[digest][member] = FileEntry(path=member, sha256=digest_file(path), size=size)
        except (OSError, ValueError) as error:  # such as a bad sector, or a name that no object can have
            contents.unreadable[digest, member] = str(error)
        if progress is not None:
            progress(size)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(measure, files))
    return contents


def _half_made(root: Path) -> bool:
    """Whether the folder looks like a store that is just being made: empty folders and no header yet."""
    if not root.is_dir() or (root / layout.HEADER).exists():
        return False
    return all(path.name in layout.FOLDERS for path in root.iterdir()) and not any(
        path.name != "staging" and any(path.iterdir()) for path in root.iterdir()
    )


# --- records -----------------------------------------------------------------------------------------------


def _manifests(store: Store) -> tuple[list[Manifest], list[Problem]]:
    root, from_elsewhere = store.root, brought(store)
    releases: list[Manifest] = []
    problems: list[Problem] = []
    known = set(layout.manifests(root))
    for path in sorted((root / "releases").glob("*/*")):
        try:
            if path in known:
                manifest = index.load(root, path)
                manifest.objects()
                releases.append(manifest)
                check_release(store, manifest, from_elsewhere)
            elif path.suffix == ".retired":
                tombstones.read(path)
            else:
                problems.append(_unexpected(root, path))
        except (ObjectMissing, ObjectDamaged):  # reported with the objects
            continue
        except (DamagedManifest, ReleaseDiffers, TableError, OSError) as error:
            problems.append(_damaged(root, path, error))
    return releases, problems


def _records(root: Path) -> list[Problem]:
    problems: list[Problem] = []
    for model, alias in aliases.names(root):
        problems += _alias(root, model, alias)
    for folder in sorted((root / "signatures").glob("*/*")):
        for number in layout.numbers(folder):
            path = folder / f"{number}.json"
            try:
                signatures.read(path)
            except (DamagedSignature, OSError) as error:
                problems.append(_damaged(root, path, error))
    return problems


def _ledger(root: Path) -> Iterator[Problem]:
    """Problems of the ledger: each recorded file must be there with its bytes, or a tombstone in its place."""
    if not (root / "ledger").is_dir() and any(layout.manifests(root)):
        yield Problem("missing", "ledger", "the store's ledger is not there")
    known = ledger.numbers(root)
    for number in _lost(known):
        path = ledger.entry_path(root, number)
        yield Problem("missing", _relative(root, path), "an entry of the ledger is not there")
    entries: list[ledger.LedgerEntry] = []
    for number in known:
        path = ledger.entry_path(root, number)
        try:
            entries.append(ledger.read(root, number))
        except (DamagedLedger, OSError) as error:
            yield _damaged(root, path, error)
    noted = {entry.path for entry in entries}
    for entry in entries:
        subject = root / entry.path
        if subject.exists():
            if _digest(subject) != entry.sha256:
                yield Problem("damaged", entry.path, "not what was written there")
        elif not _is_retired(root, subject, noted):
            yield Problem("missing", entry.path, "it was put into this store and is not there")


def _policy(root: Path) -> Iterator[Problem]:
    """A problem if the policy cannot be understood: then nothing is promoted, signed or imported."""
    try:
        read_policy(root)
    except ConfigError as error:
        yield Problem("damaged", _relative(root, Path(error.where or root / layout.POLICY)), error.what)


def _open(root: Path) -> Iterator[Problem]:
    """Problems of permissions: what others may write could be anybody's."""
    for path in open_to_others(root):
        yield Problem("damaged", _relative(root, path), "other users may write it: `chmod go-w`")


def _lost(known: Sequence[int]) -> Iterator[int]:
    """The missing numbers between 1 and the last; only the first of a long gap, such as before a stray 999999999."""
    for before, after in zip((0, *known), known, strict=False):
        yield from range(before + 1, after if after - before < _LONG_GAP else min(after, before + 2))


def _is_retired(root: Path, subject: Path, noted: set[str]) -> bool:
    """Whether a missing record was rightly removed with its release: there is a tombstone, or the ledger lists one.

    `noted` are the paths in the ledger. A lost tombstone is reported by its own entry there.
    """
    model, version = subject.parent.name, subject.stem
    if subject.suffix == ".json" and subject.is_relative_to(root / "signatures"):
        model, version = subject.parts[-3], subject.parts[-2]
    elif subject.suffix != ".json" or not subject.is_relative_to(root / "releases"):
        return False
    tombstone = layout.tombstone_path(root, model, int(version))
    return tombstone.exists() or _relative(root, tombstone) in noted


def _alias(root: Path, model: str, alias: str) -> Iterator[Problem]:
    """Problems of an alias: each entry must be there and readable, and the last must point to its own release."""
    folder = layout.alias_folder(root, model, alias)
    known = layout.numbers(folder)
    for number in _lost(known):
        path = folder / f"{number}.json"
        yield Problem("missing", _relative(root, path), f"an entry of {model}:{alias} is not there")
    for number in known:
        path = folder / f"{number}.json"
        try:
            entry = aliases.read(root, model, alias, number)
        except (DamagedAlias, OSError) as error:
            yield _damaged(root, path, error)
            continue
        target = layout.manifest_path(root, model, entry.version)
        if number == known[-1] and not target.exists():
            what = f"{model}:{alias} points to {entry.ref}, which is not there"
            yield Problem("missing", _relative(root, target), what, releases=(entry.ref,))
        elif number == known[-1] and _digest(target) != entry.manifest:
            what = f"{model}:{alias} was promoted to another {entry.ref}"
            yield Problem("damaged", _relative(root, target), what, releases=(entry.ref,))


# --- objects -----------------------------------------------------------------------------------------------


def _objects(root: Path, releases: list[Manifest], contents: Contents) -> list[Problem]:
    problems = [_unexpected(root, path) for path in contents.unexpected]
    wanted: dict[str, ArtifactRef] = {}
    users: dict[str, list[str]] = {}
    for manifest in releases:
        for ref in manifest.objects():
            wanted[ref.digest] = ref
            users.setdefault(ref.digest, []).append(manifest.ref)
    on_demand = (root / layout.BUCKET).exists()  # objects of other hosts come from the bucket when they are needed
    for digest, ref in wanted.items():
        if on_demand and digest not in contents.entries:
            continue
        problems += _compare(root, ref, contents, tuple(users[digest]))
    for digest, entries in contents.entries.items():
        if digest not in wanted and ArtifactRef.of("", entries.values()).digest != digest:
            where = _relative(root, layout.object_folder(root, digest))
            problems.append(Problem("damaged", where, "an object that no release uses is damaged", digest))
    return problems


def _compare(root: Path, ref: ArtifactRef, contents: Contents, users: tuple[str, ...]) -> Iterator[Problem]:
    folder = layout.object_folder(root, ref.digest)
    found = contents.entries.get(ref.digest)
    if found is None:
        what = f"the {ref.kind} object is not there"
        yield Problem("missing", _relative(root, folder), what, ref.digest, users)
        return
    for entry in ref.files:
        where = _relative(root, folder / entry.path)
        here = found.get(entry.path)
        if (ref.digest, entry.path) in contents.unreadable:
            what = f"cannot be read: {contents.unreadable[ref.digest, entry.path]}"
            yield Problem("damaged", where, what, ref.digest, users)
        elif here is None:
            yield Problem("missing", where, f"a file of a {ref.kind} object is not there", ref.digest, users)
        elif here != entry:
            what = f"{here.size} of {entry.size} bytes" if here.size != entry.size else f"other bytes than {ref.kind}'s"
            yield Problem("damaged", where, what, ref.digest, users)
    for member in sorted(found.keys() - {entry.path for entry in ref.files}):
        what = f"not a file of this {ref.kind} object"
        yield Problem("unexpected", _relative(root, folder / member), what, ref.digest, users)


def _digest(path: Path) -> str | None:
    """The file's digest; None if it cannot be read, which another check reports."""
    try:
        return digest_file(path)
    except OSError:
        return None


def _unexpected(root: Path, path: Path) -> Problem:
    return Problem("unexpected", _relative(root, path), "nothing that clipsmith puts there")


def _damaged(root: Path, path: Path, error: Exception) -> Problem:
    return Problem("damaged", _relative(root, path), str(error).partition("\n")[0])


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
