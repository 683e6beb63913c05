"""References to stored objects: steps hand each other these, never bare paths."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from artifacts.limits import LARGEST_SIZE
from artifacts.models import Frozen, Strict

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def _safe_relative(path: str) -> str:
    pure = PurePosixPath(path)
    if path != str(pure) or pure.is_absolute() or not re.fullmatch(r"[A-Za-z0-9._@+/-]+", path) or ".." in pure.parts:
        raise ValueError(f"not a plain relative path: {path!r}")
    return path


Size = Annotated[int, Field(ge=0, le=LARGEST_SIZE)]
"""Bytes of a file."""
RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=240), AfterValidator(_safe_relative)]


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, UTF-8, NaN and Infinity refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_json(value: Any) -> str:
    """Hex sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, streamed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class FileEntry(Strict):
    """One file of an object: its path inside the object, sha256 (hex) and size (bytes)."""

    path: RelativePath
    sha256: Sha256
    size: Size


class ArtifactRef(Frozen):
    """An immutable object in a store: a small tree of files, named by the digest of that tree.

    `digest` is the sha256 of the canonical JSON of `files` sorted by path, so equal content has equal digests
    whatever produced it. `kind` is for people and for messages; it is not part of the digest.
    """

    kind: str
    digest: Sha256
    files: tuple[FileEntry, ...]

    @classmethod
    def of(cls, kind: str, files: Iterable[FileEntry]) -> ArtifactRef:
        ordered = tuple(sorted(files, key=lambda entry: entry.path))
        return cls(kind=kind, digest=digest_json([entry.model_dump() for entry in ordered]), files=ordered)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    def entry(self, path: str) -> FileEntry:
        """The entry of one file; KeyError when the object has no such file."""
        for entry in self.files:
            if entry.path == path:
                return entry
        raise KeyError(f"{self.kind} object {self.digest[:12]} has no file {path!r}")
