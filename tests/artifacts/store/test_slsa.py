"""Provenance is read by in-toto's own parser, has what SLSA requires, and tells no secrets."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from artifacts.errors import DamagedManifest
from artifacts.manifest import Manifest, ReleaseFile
from artifacts.refs import digest_json
from artifacts.store.slsa import slsa_statement
from tests.artifacts.conftest import build_manifest

DIGEST = "9" * 64
PATHS = ("image/fp8.onnx", "report.html", "evidence/image/fp8.trtrtx-sm89.log")


def release(**provenance: Any) -> Manifest:
    files = tuple(
        ReleaseFile(path=path, kind="x", object="a" * 64, member="m", sha256=f"{index:064x}", size=1)
        for index, path in enumerate(PATHS)
    )
    manifest = build_manifest()
    changed = manifest.provenance.model_copy(update=provenance)
    return manifest.model_copy(update={"files": files, "provenance": changed})


def statement_of(**provenance: Any) -> dict[str, Any]:
    return slsa_statement(release(**provenance), DIGEST)


def dependencies(statement: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}


def test_in_toto_reads_it() -> None:
    """Its parsers refuse fields that they do not know and values of other types."""
    statement = json.loads(json.dumps(statement_of(), allow_nan=False))
    parsed = json_format.ParseDict(statement, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    assert {item.name: item.digest["sha256"] for item in parsed.subject} == {
        "image/fp8.onnx": f"{0:064x}",
        "report.html": f"{1:064x}",
        "evidence/image/fp8.trtrtx-sm89.log": f"{2:064x}",
        "manifest.json": DIGEST,
    }
    predicate = json_format.ParseDict(statement["predicate"], provenance_pb2.Provenance())
    assert predicate.run_details.metadata.finished_on.ToJsonString() == "2026-11-03T02:14:09Z"
    assert predicate.run_details.builder.version == {"clipsmith": "0.1.0"}
    assert [item.name for item in predicate.run_details.byproducts] == ["evidence/image/fp8.trtrtx-sm89.log"]
    assert len(predicate.build_definition.resolved_dependencies) == len(dependencies(statement))


def test_it_has_what_slsa_requires() -> None:
    """Written from the specifications of SLSA v1.0 and of in-toto's field types."""
    statement = statement_of()
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["predicate"].keys() == {"buildDefinition", "runDetails"}
    definition, details = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    for uri in (definition["buildType"], details["builder"]["id"]):
        assert re.fullmatch(r"https://[a-z0-9.-]+/\S+/v\d+", uri)
    assert definition["externalParameters"]
    assert not definition["externalParameters"].keys() & definition["internalParameters"].keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", details["metadata"]["finishedOn"])
    for resource in [*statement["subject"], *definition["resolvedDependencies"], *details["byproducts"]]:
        assert resource.keys() & {"uri", "digest", "content"}
        assert resource.keys() <= {"name", "uri", "digest", "annotations"}
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in resource.get("digest", {}).values())


def test_it_names_all_that_the_release_was_made_from() -> None:
    parent = "7" * 64
    found = dependencies(statement_of(parents=(parent,)))
    hub = "pkg:huggingface/openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41"
    assert found["checkpoint"]["uri"] == hub
    assert found["checkpoint"]["digest"] == {"sha256": "d" * 64}
    assert found["checkpoint/model.safetensors"]["uri"] == f"{hub}#model.safetensors"
    assert found["checkpoint/model.safetensors"]["digest"] == {"sha256": "e" * 64}
    assert found["calibration"]["digest"] == {"sha256": "b" * 64}
    assert found["calibration"]["annotations"]["samples"] == 512
    assert found["evaluation"]["annotations"]["samples"] == 2000
    assert found["recipe"]["digest"] == {"sha256": digest_json({"algorithm": "max"})}
    assert found["parent release"]["digest"] == {"sha256": parent}
    assert found["torch"]["uri"] == "pkg:pypi/torch@2.13.0"


def test_packages_are_those_that_were_there() -> None:
    packages = {"torch": "2.13.0+cpu", "ml_dtypes": "0.6.0", "tensorrt": "not installed", "clipsmith": "0.1.0"}
    found = dependencies(statement_of(packages=packages))
    assert sorted(item["uri"] for item in found.values() if item.get("uri", "").startswith("pkg:pypi")) == [
        "pkg:pypi/ml-dtypes@0.6.0",
        "pkg:pypi/torch@2.13.0%2Bcpu",
    ]


def test_a_folder_without_calibration() -> None:
    source = build_manifest().provenance.source.model_copy(update={"kind": "folder", "name": "/models/clip"})
    found = dependencies(statement_of(source=source, calibration=None))
    assert "calibration" not in found
    assert found["checkpoint"].keys() == {"name", "digest", "annotations"}
    assert found["checkpoint"]["annotations"]["name"] == "/models/clip"


def test_equal_manifests_have_equal_statements() -> None:
    again = Manifest.from_bytes(release().to_bytes(), where="memory")
    assert json.dumps(statement_of(), sort_keys=True) == json.dumps(slsa_statement(again, DIGEST), sort_keys=True)


# --- secrets -----------------------------------------------------------------------------------------------

SECRET = "s3cr3t"
URLS = {
    f"https://user:{SECRET}@host/data": "https://[redacted]@host/data",
    f"https://{SECRET}@host:8080/data": "https://[redacted]@host:8080/data",
    f"s3://AKIA:{SECRET}/with/slashes@bucket/key": "s3://[redacted]@bucket/key",
    f"https://user:p@{SECRET}@host": "https://[redacted]@host",
    f"https://host/data?token={SECRET}": "https://host/data?[redacted]",
    f"https://host/data?a=1&X-Amz-Signature={SECRET}#part": "https://host/data?[redacted]#part",
    f"zip://a.zip::https://user:{SECRET}@host/a.zip": "zip://[redacted]@host/a.zip",
    f"look at https://u:{SECRET}@host/a and https://u:{SECRET}@host/b": (
        "look at https://[redacted]@host/a and https://[redacted]@host/b"
    ),
}
PLAIN = ("digits", "./photos", "openai/clip@main", "https://host:8080/model@4", "https://host/a", "a?b@c", "s3://b/k")


@pytest.mark.parametrize(("url", "left"), URLS.items(), ids=range(len(URLS)))
def test_credentials_in_urls_are_left_out(url: str, left: str) -> None:
    original = build_manifest().provenance
    statement = statement_of(
        source=original.source.model_copy(update={"name": url, "revision": url}),
        calibration=original.evaluation.model_copy(update={"source": url}),
        evaluation=original.evaluation.model_copy(update={"source": url}),
        parameters={"calibration": {"source": url}, "list": [url], url: 1},
        recipe=url,
        recipe_content={"file": url},
        device={"host": url},
        packages={"torch": f"2+{url}"},
        code=url,
    )
    assert SECRET not in json.dumps(statement)
    assert statement["predicate"]["buildDefinition"]["externalParameters"]["calibration"]["source"] == left


@pytest.mark.parametrize("text", PLAIN)
def test_what_carries_no_credentials_stays(text: str) -> None:
    statement = statement_of(parameters={"source": text})
    assert statement["predicate"]["buildDefinition"]["externalParameters"] == {"source": text}


# --- time --------------------------------------------------------------------------------------------------


def test_times_are_in_utc() -> None:
    manifest = release().model_copy(update={"created": "2026-11-03T04:14:09+02:00"})
    metadata = slsa_statement(manifest, DIGEST)["predicate"]["runDetails"]["metadata"]
    assert metadata["finishedOn"] == "2026-11-03T02:14:09Z"


@pytest.mark.parametrize("created", ["", "yesterday", "2026-11-03T04:14:09"])
def test_a_time_that_is_none(created: str) -> None:
    with pytest.raises(DamagedManifest, match="ISO 8601"):
        slsa_statement(release().model_copy(update={"created": created}), DIGEST)
