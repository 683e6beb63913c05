"""A release's provenance in the form that supply-chain tools read: an in-toto Statement with a SLSA predicate.

Statement: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
Predicate: https://slsa.dev/spec/v1.0/provenance

It is made of the manifest alone, so equal manifests give equal statements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from artifacts import places
from artifacts.errors import DamagedManifest
from artifacts.manifest import DataSource, Manifest, Provenance, Source
from artifacts.refs import Sha256

BUILD_TYPE = "https://clipsmith.dev/optimize/v1"
BUILDER = "https://clipsmith.dev/self-hosted/v1"  # one must trust the person who ran the command
# Matches up to the last @ before the path; also beyond slashes if no port number follows the first colon, because keys
# pasted into URLs may hold unescaped slashes.
_USER = re.compile(r"(?<=://)(?:[^/\s:@]*:(?!\d{1,5}(?:/|$))\S*|[^/\s]*)@")
_QUERY = re.compile(r"(://[^\s?#]*)\?[^\s#]+")
_REDACTED = "[redacted]"

_Descriptor = dict[str, Any]


def slsa_statement(manifest: Manifest, manifest_digest: Sha256) -> dict[str, Any]:
    """The in-toto Statement v1 about a release as it is exported, as JSON values.

    `manifest_digest` is the sha256 of the stored manifest's bytes. The subjects are the files of the release and
    `manifest.json`. User names, passwords and queries of URLs in the recorded provenance are left out.

    Raises:
        DamagedManifest: the manifest's `created` is not a time.
    """
    provenance = Provenance.model_validate(_without_secrets(manifest.provenance.model_dump(mode="json")))
    files = [_descriptor(file.path, file.sha256) for file in manifest.files]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [*files, _descriptor(places.MANIFEST, manifest_digest)],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": provenance.parameters,
                "internalParameters": {"device": provenance.device},
                "resolvedDependencies": list(_dependencies(provenance)),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"clipsmith": provenance.code}},
                "metadata": {"invocationId": manifest.identity, "finishedOn": _utc(manifest)},
                "byproducts": [file for file in files if file["name"].startswith(f"{places.EVIDENCE}/")],
            },
        },
    }


def _dependencies(provenance: Provenance) -> Iterator[_Descriptor]:
    """What the release was made from: checkpoint, data, recipe, releases before it, packages."""
    yield from _checkpoint(provenance.source)
    if provenance.calibration is not None:
        yield _data("calibration", provenance.calibration)
    yield _data("evaluation", provenance.evaluation)
    recipe = {"recipe": provenance.recipe, "content": provenance.recipe_content}
    yield _descriptor("recipe", provenance.recipe_digest) | {"annotations": recipe}
    for identity in provenance.parents:
        yield _descriptor("parent release", identity)
    for name, version in sorted(provenance.packages.items()):
        # Packages that were not installed have no version number; clipsmith is the builder, not a dependency.
        if version[:1].isdigit() and name != "clipsmith":
            yield {"name": name, "uri": _purl("pypi", name.lower().replace("_", "-"), version)}


def _checkpoint(source: Source) -> Iterator[_Descriptor]:
    """The source checkpoint as a whole, and each file of weights."""
    uri = {"uri": _purl("huggingface", source.name, source.revision.lower())} if source.kind == "hub" else {}
    known = source.model_dump(include={"kind", "name", "revision", "family"})
    yield _descriptor("checkpoint", source.digest) | uri | {"annotations": known}
    for path, digest in sorted(source.weights.items()):
        member = {"uri": f"{uri['uri']}#{quote(path)}"} if uri else {}
        yield _descriptor(places.within(places.CHECKPOINT, path), digest) | member


def _data(name: str, data: DataSource) -> _Descriptor:
    return _descriptor(name, data.digest) | {"annotations": data.model_dump(exclude={"digest"})}


def _descriptor(name: str, digest: Sha256) -> _Descriptor:
    return {"name": name, "digest": {"sha256": digest}}


def _purl(kind: str, name: str, version: str) -> str:
    """A package URL (https://github.com/package-url/purl-spec)."""
    return f"pkg:{kind}/{quote(name)}@{quote(version, safe='')}"


def _utc(manifest: Manifest) -> str:
    try:
        created = datetime.fromisoformat(manifest.created)
        if created.tzinfo is None:
            raise ValueError("no offset")
    except ValueError as error:
        raise DamagedManifest(
            f"{manifest.created!r} is not the time at which {manifest.ref} was made",
            where=f"`created` of {manifest.ref}",
            expected="ISO 8601 with an offset from UTC",
            fix="restore the manifest from a copy of the store",
        ) from error
    return created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _without_secrets(value: Any) -> Any:
    """The JSON value without the parts of URLs that carry credentials."""
    match value:
        case str():
            return _QUERY.sub(rf"\1?{_REDACTED}", _USER.sub(f"{_REDACTED}@", value))
        case dict():
            return {_without_secrets(key): _without_secrets(item) for key, item in value.items()}
        case list():
            return [_without_secrets(item) for item in value]
    return value
