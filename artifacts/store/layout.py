"""Where things are in a store; the store's docstring has the picture."""

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
"""Of releases from elsewhere, made here."""
PUBLISH_LOCK = "publish.lock"
POLICY = "policy.yaml"
BUCKET = "bucket.json"
# Nine digits: artifacts.limits.LARGEST_NUMBER.
_MANIFEST = re.compile(r"([1-9][0-9]{0,8})\.json")
_NUMBERED = re.compile(r"([1-9][0-9]{0,8})\.(?:json|retired)")


def next_number(known: Sequence[int]) -> int:
    """The number after the highest, of those up to which there is no leap: one that came from elsewhere and is absurdly
    high does not use the numbers up.

    `known` are in order. The result is above `LARGEST_NUMBER` when there is none left.
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
    """Whether a number that comes from elsewhere is absurdly above those that are known, in order."""
    return number not in known and number >= next_number(known) + limits.LARGEST_LEAP


def object_folder(root: Path, digest: str) -> Path:
    """The folder of an object."""
    return root / "objects" / digest[:2] / digest


def manifest_path(root: Path, model: str, version: int) -> Path:
    """The manifest of a release."""
    return root / "releases" / model / f"{version}.json"


def tombstone_path(root: Path, model: str, version: int) -> Path:
    """What is left of a release that was retired."""
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
        OSError: a folder cannot be listed. A glob would leave it out, and the collector take its releases for gone.
    """
    folders = listed(root / "releases") if model is None else [root / "releases" / model]
    for folder in folders:
        yield from (path for path in listed(folder) if _MANIFEST.fullmatch(path.name))


def listed(folder: Path) -> list[Path]:
    """What is in a folder, in order; nothing where there is none, as in a copy that left empty folders out."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def numbers(folder: Path, *, retired: bool = False) -> list[int]:
    """The numbers of a folder's `<n>.json` files in order, with `retired` those of its `<n>.retired` files too."""
    pattern = _NUMBERED if retired else _MANIFEST
    names = (pattern.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else iter(())
    return sorted({int(match[1]) for match in names if match})
