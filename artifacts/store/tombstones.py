"""What is left of a release that was retired: enough to say so, and to never use its version again."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from artifacts.errors import DamagedManifest
from artifacts.models import Frozen
from artifacts.names import ModelName
from artifacts.records import parse
from artifacts.refs import Sha256


class Tombstone(Frozen):
    """The record of a release that is gone; `manifest` is the sha256 of the manifest's bytes."""

    format: Literal[1] = 1
    model: ModelName
    version: int = Field(ge=1)
    identity: Sha256
    manifest: Sha256
    created: str
    retired: str


def read(path: Path) -> Tombstone:
    """Raises: DamagedManifest."""
    return parse(Tombstone, path.read_bytes(), where=path, error=DamagedManifest, what="the tombstone")
