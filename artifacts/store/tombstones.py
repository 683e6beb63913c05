"""The record that is left of a retired release, so that its version is never used again."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from artifacts.errors import DamagedManifest
from artifacts.models import Frozen
from artifacts.names import ModelName, Number
from artifacts.records import parse, read_bytes
from artifacts.refs import Sha256
from artifacts.times import IsoTime


class Tombstone(Frozen):
    """The record of a release that is gone; `manifest` is the sha256 of the manifest's bytes."""

    format: Literal[1] = 1
    model: ModelName
    version: Number
    identity: Sha256
    manifest: Sha256
    created: IsoTime
    retired: IsoTime


def read(path: Path) -> Tombstone:
    """Read a tombstone. Raises: DamagedManifest."""
    return parse(Tombstone, read_bytes(path), where=path, error=DamagedManifest, what="the tombstone")
