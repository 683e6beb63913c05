"""A release's identity: one digest of what it is, which follows from its manifest alone.

Version 2 is the digest of the canonical JSON of these fields:

    version                 2
    source                  the digest of the checkpoint
    calibration, evaluation the digests of the data sets, null without one
    recipe                  the digest of what the recipe does, null without one
    files                   path, kind, encoder, precision, target and content of every file that counts, by path
    tables                  every table but `latency` and `stages`
    gates                   what each gate found

The content of a file is its sha256; for `modelopt_state.pth`, a pickle whose bytes differ from run to run, it is the
digest of `pickle_content`. Not part of the identity: timings (timed calls, the tables of latency and stages),
builders' logs, derived files (tables, the report, scripts), the circumstances of the run (parameters, packages, device,
code, parents), and what the store assigns (model, version, sequence, creation).

Version 1, of older releases, digests objects instead of files (timings included), all tables but `stages`, and gates.
Never change the meaning of a version; add another: a release is checked by the version that it names.
"""

from __future__ import annotations

import hashlib
import pickletools
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Container, Mapping
from pathlib import Path
from struct import error as struct_error
from typing import Any, Literal

from artifacts import limits, places
from artifacts.manifest import Manifest, ReleaseFile
from artifacts.refs import digest_json

IDENTITY: Literal[2] = 2
"""The version for new releases."""
_MEASURED_TABLES = ("latency", "stages")
_DERIVED: Mapping[str, str] = {
    "tables": rf"{places.TABLES}/[a-z]+\.parquet",
    "report": re.escape(places.REPORT),
    "scripts": rf"{places.SCRIPTS}/(?:[\w.-]+\.sh|parameters\.yaml)",
}
"""The kinds of files that are derived from the manifest and the evidence, and their folders."""
_MEASURED: Mapping[str, str] = {
    "build-log": rf"{places.EVIDENCE}/build-[\w.-]+/build\.log",
    "latencies": rf"{places.EVIDENCE}/latency-[\w.-]+/{re.escape(places.LATENCIES)}",
}
DERIVED_KINDS = frozenset(_DERIVED)
_STATE = places.within(places.CHECKPOINT, places.MODELOPT_STATE)
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET", "FRAME", "PROTO"}
_RANDOM = ".data/serialization_id"
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct_error, OSError, EOFError, ValueError, LookupError, RuntimeError)


def identity_of(manifest: Manifest) -> str:
    """Compute the identity from a manifest, by the version of the definition that it names."""
    return _version_1(manifest) if manifest.identity_version == 1 else _version_2(manifest)


def is_derived(file: ReleaseFile) -> bool:
    """Whether a file is derived from the manifest and the evidence, and so never counts."""
    return _lies(file, _DERIVED)


def misplaced(file: ReleaseFile) -> bool:
    """Whether a file has the kind of a derived or timed file but not its path, or the path but not the kind."""
    return any((file.kind == kind) != _lies(file, {kind: place}) for kind, place in {**_DERIVED, **_MEASURED}.items())


def _lies(file: ReleaseFile, kinds: Mapping[str, str]) -> bool:
    return file.kind in kinds and re.fullmatch(kinds[file.kind], file.path) is not None


def _version_1(manifest: Manifest) -> str:
    objects = {
        (file.path.removesuffix(file.member).rstrip("/"), file.object)
        for file in manifest.files
        if file.kind not in (*_DERIVED, "build-log")
    }
    counted = sorted([folder, digest] for folder, digest in objects)
    return digest_json(_inputs_and_results(manifest, without=("stages",)) | {"objects": counted})


def _version_2(manifest: Manifest) -> str:
    files = [
        [file.path, file.kind, file.encoder, file.precision, file.target, file.content or file.sha256]
        for file in manifest.files
        if not _lies(file, {**_DERIVED, **_MEASURED})
    ]
    counted = {"version": 2, "files": sorted(files, key=lambda file: str(file[0]))}
    return digest_json(_inputs_and_results(manifest, without=_MEASURED_TABLES) | counted)


def _inputs_and_results(manifest: Manifest, *, without: Container[str]) -> dict[str, Any]:
    """What both versions digest alike; `without` names the tables that do not count."""
    about = manifest.provenance
    return {
        "source": about.source.digest,
        "calibration": about.calibration and about.calibration.digest,
        "evaluation": about.evaluation.digest,
        "recipe": about.recipe_digest if about.recipe_content is not None else None,
        "tables": {name: rows for name, rows in manifest.tables.items() if name not in without},
        "gates": [result.model_dump(mode="json") for result in manifest.gates],
    }


def has_content(path: str) -> bool:
    """Whether the content of the file at `path` is another digest than its sha256."""
    return path == _STATE


def pickle_content(path: Path) -> str | None:
    """A digest of a pickle in torch's zip format that does not depend on the order of its operations; None if the file
    is not one.

    It digests how often each pickle operation occurs with each argument (memo slots are ignored), and the digests of
    the zip's other members. Nothing is unpickled.
    """
    try:
        if path.stat().st_size > limits.PICKLE:
            return None
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > limits.PICKLE:
                return None
            operations: Counter[tuple[str, str]] = Counter()
            others: list[Any] = []
            for member in members:
                name, data = member.filename.partition("/")[2], _read(archive, member)
                if name == "data.pkl":
                    found = ((code.name, repr(argument)) for code, argument, _ in pickletools.genops(data))
                    operations.update(one for one in found if one[0] not in _MEMO)
                elif name != _RANDOM:
                    others.append([name, hashlib.sha256(data).hexdigest()])
    except _UNREADABLE:
        return None
    counted = sorted([*operation, count] for operation, count in operations.items())
    return digest_json({"operations": counted, "members": sorted(others)}) if counted else None


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member; its size in the zip's directory is not trusted."""
    with archive.open(member) as stream:
        data = stream.read(limits.PICKLE + 1)
    if len(data) > member.file_size:
        raise ValueError("a member is larger than it says")
    return data
