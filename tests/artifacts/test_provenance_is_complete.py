"""P12: a release without a part of its provenance is none: each field, removed, is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from artifacts.errors import DamagedManifest
from artifacts.manifest import DataSource, Manifest, Provenance, Source
from artifacts.refs import canonical_json, digest_json
from tests.artifacts.support import SHA, digest, provenance

PROMISED = {
    *("source.revision", "source.digest", "source.weights", "calibration.digest", "evaluation.digest"),
    *("recipe", "recipe_digest", "recipe_content", "parameters", "packages", "code", "device", "parents"),
}
HAVE_DEFAULTS = {
    "parents",
    *(f"{data}.{name}" for data in ("calibration", "evaluation") for name in ("skipped", "truncated")),
}
FIELDS = sorted(
    {
        *Provenance.model_fields,
        *(f"source.{name}" for name in Source.model_fields),
        *(f"{data}.{name}" for data in ("calibration", "evaluation") for name in DataSource.model_fields),
    }
    - {f"{data}.notes" for data in ("calibration", "evaluation")}  # left out where there is nothing to say
)


@pytest.fixture
def content() -> dict[str, Any]:
    manifest = Manifest(
        model="a",
        version=1,
        sequence=1,
        created="2026-01-01T00:00:00+00:00",
        identity=digest("1"),
        provenance=provenance(calibration=DataSource(source="digits", digest=SHA, samples=9), parents=(SHA,)),
        files=(),
        tables={},
    )
    return manifest.model_dump(mode="json")


def signed(content: dict[str, Any]) -> bytes:
    """As a manifest whose own digest is right, so that only its contents can be refused."""
    return canonical_json(content | {"digest": digest_json(content)})


def without(content: dict[str, Any], field: str) -> dict[str, Any]:
    changed = copy.deepcopy(content)
    part = changed["provenance"]
    *path, last = field.split(".")
    for name in path:
        part = part[name]
    del part[last]
    return changed


def test_what_is_promised_is_there(content: dict[str, Any]) -> None:
    assert set(FIELDS) >= PROMISED
    assert Manifest.from_bytes(signed(content), where="here").provenance.parents == (SHA,)


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_is_needed(content: dict[str, Any], field: str) -> None:
    changed = without(content, field)
    with pytest.raises(DamagedManifest, match="here"):
        Manifest.from_bytes(signed(changed), where="here")
    if field not in HAVE_DEFAULTS:  # those are always written, and so always missed above
        with pytest.raises(ValidationError, match=field.rpartition(".")[2]):
            Manifest.model_validate(changed)


@pytest.mark.parametrize("field", ["source", "evaluation", "recipe_digest", "parameters", "packages", "device", "code"])
def test_none_is_not_a_value(content: dict[str, Any], field: str) -> None:
    content["provenance"][field] = None
    with pytest.raises(DamagedManifest):
        Manifest.from_bytes(signed(content), where="here")


def test_there_is_no_release_without_provenance(content: dict[str, Any]) -> None:
    del content["provenance"]
    with pytest.raises(DamagedManifest):
        Manifest.from_bytes(signed(content), where="here")
