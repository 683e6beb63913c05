"""The record of one release: what it holds, where it came from and what was measured."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from artifacts.errors import BadName, DamagedManifest
from artifacts.names import ModelName
from artifacts.refs import ArtifactRef, FileEntry, RelativePath, Sha256, canonical_json, digest_json

FORMAT: Literal[1] = 1
_DIGEST = "digest"
Encoder = Literal["image", "text"]
Cell = str | int | float | bool | None
Row = dict[str, Cell]

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class ReleaseFile(BaseModel):
    """One file of a release.

    `path` is its place in an exported folder; `object` and `member` are its place in the store.
    """

    model_config = _FROZEN

    path: RelativePath
    kind: str
    object: Sha256
    member: RelativePath
    sha256: Sha256
    size: int
    encoder: Encoder | None = None
    precision: str | None = None
    target: str | None = None


class Source(BaseModel):
    """The checkpoint a release was made from; `weights` maps each safetensors file to its sha256."""

    model_config = _FROZEN

    kind: Literal["hub", "folder", "demo", "published"]
    name: str
    revision: str
    digest: Sha256
    weights: dict[str, Sha256]
    family: str


class DataSource(BaseModel):
    """A set of samples used: where from, the digest over ids and contents, and how many.

    `skipped` samples could not be decoded; `truncated` texts were longer than the context.
    """

    model_config = _FROZEN

    source: str
    digest: Sha256
    samples: int
    skipped: int = 0
    truncated: int = 0


class Provenance(BaseModel):
    """Everything that touched a release."""

    model_config = _FROZEN

    source: Source
    calibration: DataSource | None
    evaluation: DataSource
    recipe: str
    recipe_digest: Sha256
    recipe_content: dict[str, Any] | None
    parameters: dict[str, Any]
    packages: dict[str, str]
    device: dict[str, Cell]
    code: str
    parents: tuple[Sha256, ...] = ()


class GateResult(BaseModel):
    """What one gate found on one row of the tables: a condition on the release, met or not.

    `value` and its 95 % interval `low` to `high` are what was held against the bound, `min` or `max`: a metric, or how
    far it falls against `reference`. All are None where there was nothing to judge.
    """

    model_config = _FROZEN

    name: str
    status: Literal["passed", "failed", "undecided", "not measured"]
    min: float | None = None
    max: float | None = None
    metric: str | None = None
    encoder: str | None = None
    target: str | None = None
    reference: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def rejects(self) -> bool:
        """Whether the release is rejected for it: failed, or configured and not measured."""
        return self.status in ("failed", "not measured")


class Manifest(BaseModel):
    """An immutable release.

    `identity` is the digest of everything that makes the release what it is (inputs, objects, results); `version`,
    `sequence`, `created`, what the steps cost, and the rendered report and tables are not part of it, so the same
    work published twice is found again by its identity.
    """

    model_config = _FROZEN

    format: Literal[1] = FORMAT
    model: ModelName
    version: int = Field(ge=1)
    sequence: int = Field(ge=1)
    created: str
    identity: Sha256
    provenance: Provenance
    files: tuple[ReleaseFile, ...]
    tables: dict[str, tuple[Row, ...]]
    gates: tuple[GateResult, ...] = ()

    @property
    def ref(self) -> str:
        """How people name this release: `model@version`."""
        return f"{self.model}@{self.version}"

    @property
    def rejected(self) -> bool:
        """Whether a gate rejects this release."""
        return any(result.rejects for result in self.gates)

    @property
    def status(self) -> Literal["accepted", "rejected"]:
        """What the gates make of this release; without gates it is accepted."""
        return "rejected" if self.rejected else "accepted"

    def objects(self) -> list[ArtifactRef]:
        """Every object that holds a file of the release, once.

        Raises:
            DamagedManifest: the files listed for an object are not the whole of it.
        """
        kinds: dict[str, str] = {}
        members: dict[str, dict[str, FileEntry]] = {}
        for file in self.files:
            entry = FileEntry(path=file.member, sha256=file.sha256, size=file.size)
            kinds.setdefault(file.object, file.kind)
            members.setdefault(file.object, {})[file.member] = entry
        found = [ArtifactRef.of(kinds[digest], entries.values()) for digest, entries in members.items()]
        for digest, ref in zip(members, found, strict=True):
            if ref.digest != digest:
                raise DamagedManifest(
                    f"{self.ref} does not list the whole of its {ref.kind} object {digest[:12]}",
                    expected="every file of an object, with its digest and size",
                    fix="restore the manifest from a copy of the store",
                )
        return found

    def to_bytes(self) -> bytes:
        """Canonical JSON with its own digest; `Manifest.from_bytes(m.to_bytes()) == m`."""
        content = self.model_dump(mode="json")
        if not self.gates:  # as manifests were before there were gates, so that those can still be read
            del content["gates"]
        return canonical_json(content | {_DIGEST: digest_json(content)})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Manifest:
        """Parse a manifest.

        Raises:
            DamagedManifest: not JSON, duplicate keys, NaN, an unknown format, or not in canonical form.
        """
        try:
            content = json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_refuse)
            content.pop(_DIGEST, None)
            manifest = cls.model_validate(content)
            canonical = manifest.to_bytes()
        except (ValueError, TypeError, AttributeError, ValidationError, BadName) as error:
            raise DamagedManifest(
                f"the manifest cannot be read: {error}",
                where=where,
                expected=f"canonical JSON of a clipsmith manifest, format {FORMAT}",
                fix="restore the file from a copy of the store, or publish the release again",
            ) from error
        if canonical != data:  # the digest is part of the canonical form
            raise DamagedManifest(
                "the manifest does not match its own digest: it was edited or damaged",
                where=where,
                fix="restore the file from a copy of the store, or publish the release again",
            )
        return manifest


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"duplicate key among {sorted(keys)[:5]}")
    return dict(pairs)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
