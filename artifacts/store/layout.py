"""Paths in a store; `artifacts.store.store` describes the whole layout."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from artifacts import limits

HEADER = "store.json"
FOLDERS = (
    *("objects", "releases", "aliases", "signatures", "ledger"),
    *("staging", "leases", "quarantine", "locks", "cache"),
)
PARTIAL = "cache/partial"
RESULTS = "cache/results"
REPORTS = "cache/reports"
"""Reports of releases from elsewhere, made here."""
PUBLISH_LOCK = "publish.lock"
POLICY = "policy.yaml"
BUCKET = "bucket.json"
# Nine digits: artifacts.limits.LARGEST_NUMBER.
_MANIFEST = re.compile(r"([1-9][0-9]{0,8})\.json")
_NUMBERED = re.compile(r"([1-9][0-9]{0,8})\.(?:json|retired)")


def next_number(known: Sequence[int]) -> int:
    """The next number to use: one above the highest known number before the first absurd leap, so that an absurdly high
    number from elsewhere does not use the numbers up.

    `known` is sorted. The result is above `LARGEST_NUMBER` if none is left.
    """
    last = 0
    for number in known:
        if number - last > limits.LARGEST_LEAP:
            break
        last = number
    return last + 1


def free_number(known: Sequence[int]) -> int:
    """The lowest number that is not taken."""
    return next(number for number in itertools.count(1) if number not in known)


def leaps(number: int, known: Sequence[int]) -> bool:
    """Whether a number from elsewhere is absurdly far above the `known` ones, which are sorted."""
    return number not in known and number >= next_number(known) + limits.LARGEST_LEAP


def object_folder(root: Path, digest: str) -> Path:
    """The folder of an object."""
    return root / "objects" / digest[:2] / digest


def manifest_path(root: Path, model: str, version: int) -> Path:
    """The path of a release's manifest."""
    return root / "releases" / model / f"{version}.json"


def tombstone_path(root: Path, model: str, version: int) -> Path:
    """The path of a retired release's tombstone."""
    return root / "releases" / model / f"{version}.retired"


def alias_folder(root: Path, model: str, alias: str) -> Path:
    """The entries of an alias's history, numbered from 1."""
    return root / "aliases" / model / alias


def signature_folder(root: Path, model: str, version: int) -> Path:
    """The signatures of a release, numbered from 1."""
    return root / "signatures" / model / str(version)


def result_path(root: Path, name: str) -> Path:
    """What the store's cache keeps under a name."""
    return root / RESULTS / f"{name}.json"


def manifests(root: Path, model: str | None = None) -> Iterator[Path]:
    """Every manifest's path, of one model or all.

    Raises:
        OSError: a folder cannot be listed. (A glob would skip it, and the collector would take its releases for gone.)
    """
    folders = listed(root / "releases") if model is None else [root / "releases" / model]
    for folder in folders:
        yield from (path for path in listed(folder) if _MANIFEST.fullmatch(path.name))


def listed(folder: Path) -> list[Path]:
    """The entries of a folder, sorted; none if there is no such folder, as in a copy without empty folders."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def numbers(folder: Path, *, retired: bool = False) -> list[int]:
    """The numbers of a folder's `<n>.json` files, sorted; with `retired`, also those of its `<n>.retired` files."""
    pattern = _NUMBERED if retired else _MANIFEST
    names = (pattern.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else iter(())
    return sorted({int(match[1]) for match in names if match})
