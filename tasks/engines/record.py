"""An engine's record: what it was built for, in a file beside it, which is checked before it is deserialized.

Engines are native code. Whether one fits this machine is decided only from the record and the engine's digest, never by
trying.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from artifacts.config_files import read_file
from artifacts.errors import EngineMismatch, ObjectDamaged
from artifacts.manifest import Manifest
from artifacts.models import Frozen
from artifacts.refs import Sha256, canonical_json, digest_file
from tasks.engines.base import BatchProfile, Platform

_SUFFIX = ".json"
_BUILD_HERE = "build it on this machine: `clipsmith optimize` with the same parameters"


class EngineRecord(Frozen):
    """One engine: its target, the platform and batch sizes it was built for, and the sha256 of its bytes."""

    format: Literal[1] = 1
    target: str
    platform: Platform
    profile: BatchProfile
    sha256: Sha256


def record_path(engine: Path) -> Path:
    """The path of an engine's record: beside it, in the store and in exported releases."""
    return engine.with_name(f"{engine.name}{_SUFFIX}")


def is_record(name: str) -> bool:
    """Whether a file of an engine object is its record."""
    return name.endswith(f".engine{_SUFFIX}")


def write_record(engine: Path, target: str, platform: Platform, profile: BatchProfile) -> None:
    """Write the record of a freshly built engine."""
    record = EngineRecord(target=target, platform=platform, profile=profile, sha256=digest_file(engine))
    record_path(engine).write_bytes(canonical_json(record.model_dump(mode="json")))


def read_engine(engine: Path, here: Platform) -> tuple[bytes, EngineRecord]:
    """Check that the platform `here` may deserialize an engine, and return its bytes and its record.

    Raises:
        EngineMismatch: the record is missing or malformed, or names another GPU, runtime or version.
        ObjectDamaged: the bytes have changed since it was built.
    """
    record = read_record(engine)
    for name, wanted in record.platform.model_dump().items():
        found = getattr(here, name)
        if wanted is not None and wanted != found:
            raise EngineMismatch(
                f"the engine was built for {name} {wanted}, this machine has {found or 'none'}",
                where=engine,
                expected=f"an engine for {here.describe()}",
                fix=_BUILD_HERE,
            )
    data = engine.read_bytes()
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise ObjectDamaged(
            "the engine's bytes are not those that were built",
            where=engine,
            expected=f"sha256 {record.sha256}",
            fix="export it again, or build it again",
        )
    return data, record


def release_profile(manifest: Manifest) -> BatchProfile:
    """The batch profile that the engines of a release were built for."""
    return BatchProfile.model_validate(manifest.provenance.parameters.get("profile", {}))


def read_record(engine: Path) -> EngineRecord:
    """Read the record of an engine.

    Raises:
        EngineMismatch: there is none, or it is malformed.
    """
    path = record_path(engine)
    if not path.exists():
        raise EngineMismatch(
            "the engine has no record of what it was built for",
            where=engine,
            expected=f"{path.name} beside it",
            fix=_BUILD_HERE,
        )
    return read_file(
        path,
        EngineRecord.model_validate,
        what="the engine's record",
        error=EngineMismatch,
        expected="the record as it was written when the engine was built",
        fix=_BUILD_HERE,
    )
