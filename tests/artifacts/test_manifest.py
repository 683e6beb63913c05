"""Manifests are canonical: every edit, and every JSON that parsers disagree about, is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from artifacts.errors import DamagedManifest
from artifacts.manifest import DataSource, GateResult, Manifest, Provenance, Source
from artifacts.refs import canonical_json
from artifacts.schema import new_row

SHA = "ab" * 32


def manifest(**changes: Any) -> Manifest:
    provenance = Provenance(
        source=Source(kind="folder", name="n", revision="r", digest=SHA, weights={"w.safetensors": SHA}, family="clip"),
        calibration=None,
        evaluation=DataSource(source="digits", digest=SHA, samples=9),
        recipe="fp8",
        recipe_digest=SHA,
        recipe_content={"algorithm": "max"},
        parameters={"a": 1.5},
        packages={"torch": "2"},
        device={"cpu": "x"},
        code="0",
    )
    values: dict[str, Any] = {
        "model": "demo",
        "version": 1,
        "sequence": 1,
        "created": "2026-01-01T00:00:00+00:00",
        "identity": SHA,
        "provenance": provenance,
        "files": (),
        "tables": {"stages": (new_row("stages", step="x", wall_s=0.5),)},
    }
    return Manifest(**(values | changes))


def test_round_trip() -> None:
    original = manifest()
    assert Manifest.from_bytes(original.to_bytes(), where="x") == original
    assert canonical_json(json.loads(original.to_bytes())) == original.to_bytes()
    assert original.ref == "demo@1"


EDITS = {
    "another value, still canonical": lambda data: data.replace(b'"wall_s":0.5', b'"wall_s":1.0'),
    "pretty printed": lambda data: json.dumps(json.loads(data), indent=1).encode(),
    "a line break more": lambda data: data + b"\n",
    "a space": lambda data: data.replace(b'"version":1', b'"version": 1'),
    "duplicate key": lambda data: data.replace(b'"version":1', b'"version":1,"version":1'),
    "duplicate key with another value": lambda data: data.replace(b'"version":1', b'"version":2,"version":1'),
    "NaN": lambda data: data.replace(b'"wall_s":0.5', b'"wall_s":NaN'),
    "Infinity": lambda data: data.replace(b'"wall_s":0.5', b'"wall_s":Infinity'),
    "minus Infinity": lambda data: data.replace(b'"wall_s":0.5', b'"wall_s":-Infinity'),
    "overflow": lambda data: data.replace(b'"wall_s":0.5', b'"wall_s":1e999'),
    "text for a number": lambda data: data.replace(b'"version":1', b'"version":"1"'),
    "true for a number": lambda data: data.replace(b'"version":1', b'"version":true'),
    "float for a number": lambda data: data.replace(b'"version":1', b'"version":1.0'),
    "unknown field": lambda data: data.replace(b'"version":1', b'"extra":0,"version":1'),
    "missing field": lambda data: data.replace(b'"version":1', b'"version":1').replace(b'"sequence":1,', b""),
    "another format": lambda data: data.replace(b'"format":1', b'"format":2'),
    "version zero": lambda data: data.replace(b'"version":1', b'"version":0'),
    "bad name": lambda data: data.replace(b'"model":"demo"', b'"model":"../x"'),
    "bad digest": lambda data: data.replace(SHA.encode(), SHA.upper().encode()),
    "truncated": lambda data: data[:-1],
    "empty": lambda _data: b"",
    "a list": lambda _data: b"[]",
    "not UTF-8": lambda data: data.replace(b'"n"', b'"\xff"'),
    "escaped": lambda data: data.replace(b'"n"', b'"\\u006e"'),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
}


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_is_refused(edit: str) -> None:
    original = manifest().to_bytes()
    edited = EDITS[edit](original)
    assert edited != original
    with pytest.raises(DamagedManifest) as caught:
        Manifest.from_bytes(edited, where="/store/1.json")
    assert caught.value.where == "/store/1.json"


@pytest.mark.parametrize("field", sorted(Provenance.model_fields.keys() - {"parents"}))
def test_provenance_is_complete_or_refused(field: str) -> None:
    content = json.loads(manifest().to_bytes())
    del content["provenance"][field]
    with pytest.raises(DamagedManifest, match=field):
        Manifest.from_bytes(canonical_json(content), where="x")


def listed(path: str) -> dict[str, Any]:
    return {"path": path, "kind": "onnx", "object": SHA, "member": "a.bin", "sha256": SHA, "size": 1}


@pytest.mark.parametrize("path", ["manifest.json", "provenance.intoto.json", "README.md", "signatures/1.json"])
def test_names_that_an_export_needs_are_not_free(path: str) -> None:
    with pytest.raises(ValidationError, match=f"cannot have the file {path}"):
        manifest(files=[listed(path)])


def test_no_path_is_used_twice() -> None:
    with pytest.raises(ValidationError, match="a/b twice"):
        manifest(files=[listed("a/b"), listed("a/c"), listed("a/b")])


def gate(status: str) -> GateResult:
    return GateResult.model_validate({"name": "g", "status": status, "max": 0.5, "value": 0.25})


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ((), "accepted"),
        (("passed", "undecided"), "accepted"),
        (("passed", "failed"), "rejected"),
        (("not measured",), "rejected"),
    ],
)
def test_gates_decide_the_status_and_survive(statuses: tuple[str, ...], status: str) -> None:
    original = manifest(gates=tuple(map(gate, statuses)))
    assert (original.status, original.rejected) == (status, status == "rejected")
    assert Manifest.from_bytes(original.to_bytes(), where="x") == original


def test_an_undecided_result_rejects_since_results_say_how_many_samples_they_rest_on() -> None:
    made = manifest(gates=(gate("undecided").model_copy(update={"samples": 500, "needed": 2000}),))
    assert made.status == "rejected"
    assert Manifest.from_bytes(made.to_bytes(), where="x") == made
    (before,) = json.loads(manifest(gates=(gate("undecided"),)).to_bytes())["gates"]
    assert not {"samples", "needed"} & before.keys()


def test_manifests_from_before_there_were_gates_can_be_read() -> None:
    data = manifest().to_bytes()
    assert "gates" not in json.loads(data)
    assert Manifest.from_bytes(data, where="x").gates == ()


@pytest.mark.parametrize(
    "edit", [(b'"failed"', b'"passed"'), (b'"max":0.5', b'"max":0.75'), (b'"status":"failed"', b'"status":"fine"')]
)
def test_a_gate_cannot_be_turned(edit: tuple[bytes, bytes]) -> None:
    data = manifest(gates=(gate("failed"),)).to_bytes()
    assert data.replace(*edit) != data
    with pytest.raises(DamagedManifest):
        Manifest.from_bytes(data.replace(*edit), where="x")
