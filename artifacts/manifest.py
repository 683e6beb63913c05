"""The record of one release: what it holds, where it came from and what was measured."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import FailFast, Field, field_validator

from artifacts import limits, manifest_shape, places
from artifacts.errors import DamagedManifest
from artifacts.models import Frozen
from artifacts.names import ModelName, Number
from artifacts.records import dump, parse
from artifacts.refs import ArtifactRef, FileEntry, RelativePath, Sha256, Size
from artifacts.times import IsoTime

FORMAT: Literal[1] = 1
Encoder = Literal["image", "text"]
Precision = Literal["fp16", "fp8"]
"""The precision that an exported graph computes in."""
Cell = str | int | float | bool | None
Row = dict[str, Cell]
GateStatus = Literal["failed", "not measured", "undecided", "passed"]


class ReleaseFile(Frozen):
    """One file of a release.

    `path` is its place in an exported folder; `object` (a digest) and `member` are its place in the store. `content` is
    the digest that counts for the identity, if it is another than `sha256`: see `artifacts.release.identity`.
    """

    path: RelativePath
    kind: str
    object: Sha256
    member: RelativePath
    sha256: Sha256
    size: Size
    encoder: Encoder | None = None
    precision: str | None = None
    target: str | None = None
    content: Sha256 | None = Field(default=None, exclude_if=lambda content: content is None)


class Source(Frozen):
    """The checkpoint a release was made from; `weights` maps each safetensors file to its sha256."""

    kind: Literal["hub", "folder", "demo", "published"]
    name: str
    revision: str
    digest: Sha256
    weights: dict[str, Sha256]
    family: str


class DataSource(Frozen):
    """A set of samples that was used: its source, the digest over ids and contents, and the number of samples.

    `skipped` samples could not be decoded; `truncated` texts were longer than the context. `notes` say what else is odd
    about the set, a sentence each.
    """

    source: str
    digest: Sha256
    samples: int
    skipped: int = 0
    truncated: int = 0
    # Left out when empty: manifests of older versions do not have the field.
    notes: tuple[str, ...] = Field(default=(), exclude_if=lambda notes: not notes)


class Provenance(Frozen):
    """Everything that a release was made from and with: checkpoint, data, parameters, packages, device, code."""

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

    @property
    def notes(self) -> list[str]:
        """What is odd about the data, a sentence each."""
        sources = {"calibration": self.calibration, "evaluation": self.evaluation}
        return [f"{role} data: {note}" for role, source in sources.items() if source for note in source.notes]


class GateResult(Frozen):
    """What one gate found on one row of the tables: a condition on the release, met or not.

    `value` and its 95 % interval `low` to `high` were compared with the bound, `min` or `max`: a metric, or how far it
    falls against `reference`. All are None if there was nothing to judge.

    `samples` is the number of samples behind the interval. `needed` is the number that would probably settle an
    undecided result; None if no number would.
    """

    name: str
    status: GateStatus
    min: float | None = None
    max: float | None = None
    metric: str | None = None
    encoder: str | None = None
    target: str | None = None
    reference: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    # Left out when absent: manifests of older versions do not have these fields.
    samples: int | None = Field(default=None, exclude_if=lambda count: count is None)
    needed: int | None = Field(default=None, exclude_if=lambda count: count is None)

    @property
    def rejects(self) -> bool:
        """Whether this result rejects the release: it failed, was not measured although configured, or is undecided.

        An undecided result without `samples` was written by an older version, in which it did not reject.
        """
        return self.status in ("failed", "not measured") or (self.status == "undecided" and self.samples is not None)


class Manifest(Frozen):
    """An immutable release.

    `identity` is the digest of everything that makes the release what it is (inputs, objects, results), as the given
    version of `artifacts.release.identity` defines it. Publishing the same work twice gives the same identity.
    """

    format: Literal[1] = FORMAT
    model: ModelName
    version: Number
    sequence: int = Field(ge=1, le=limits.LARGEST_SEQUENCE)
    created: IsoTime
    identity: Sha256
    # Left out if it is 1: manifests of older versions do not have the field.
    identity_version: Literal[1, 2] = Field(default=1, exclude_if=lambda version: version == 1)
    provenance: Provenance
    files: Annotated[tuple[ReleaseFile, ...], FailFast()]
    tables: dict[str, tuple[Row, ...]]
    # Left out when empty: manifests from before there were gates stay readable.
    gates: Annotated[tuple[GateResult, ...], FailFast()] = Field(default=(), exclude_if=lambda results: not results)

    @field_validator("files")
    @classmethod
    def _paths_are_free(cls, files: tuple[ReleaseFile, ...]) -> tuple[ReleaseFile, ...]:
        paths = [file.path for file in files]
        twice = [path for path, count in Counter(paths).items() if count > 1]
        taken = [path for path in paths if path in places.BESIDE or path.partition("/")[0] in places.BESIDE]
        if twice or taken:
            raise ValueError(f"a release cannot have the file {(twice + taken)[0]}" + (" twice" if twice else ""))
        return files

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
        """`rejected` if a gate rejects this release, else `accepted`."""
        return "rejected" if self.rejected else "accepted"

    def objects(self) -> list[ArtifactRef]:
        """Every object that holds a file of the release, each once.

        Raises:
            DamagedManifest: the manifest does not list all files of an object.
        """
        kinds: dict[str, str] = {}
        members: dict[str, dict[str, FileEntry]] = {}
        for file in self.files:
            entry = FileEntry(path=file.member, sha256=file.sha256, size=file.size)
            kinds.setdefault(file.object, file.kind)
            if members.setdefault(file.object, {}).setdefault(file.member, entry) != entry:
                raise DamagedManifest(f"{self.ref} lists {file.member} of object {file.object[:12]} in two ways")
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
        return dump(self)

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Manifest:
        """Parse a manifest.

        Raises:
            DamagedManifest: larger than manifests are (`artifacts.limits`), not JSON, duplicate keys, NaN, an unknown
                format, tables that are not ours, or not in canonical form.
        """
        return parse(
            cls,
            data,
            where=where,
            error=DamagedManifest,
            what="the manifest",
            limit=limits.MANIFEST,
            check=manifest_shape.check,
        )
