"""What differs between two releases: all of it, and nothing that is equal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.manifest import DataSource, GateResult, Manifest, ReleaseFile
from artifacts.release.comparison import Comparison, _flat, compare
from tests.artifacts.conftest import accuracy_rows, build_manifest, coverage_rows, latency_rows

A = build_manifest(measured=True)


def changed(**changes: Any) -> Comparison:
    """What `compare` says of a release and one with these changes of its provenance."""
    return compare(A, A.model_copy(update={"provenance": A.provenance.model_copy(update=changes)}))


def only(found: Comparison, section: str) -> dict[str, tuple[Any, Any]]:
    """The changes of the one section that differs; no metric does."""
    assert found.metrics == ()
    assert list(found.sections) == [section]
    return {change.name: (change.before, change.after) for change in found.sections[section]}


def test_a_release_does_not_differ_from_itself() -> None:
    again = Manifest.from_bytes(A.to_bytes(), where="again")
    assert compare(A, again) == Comparison(A.ref, A.ref, {}, ())


@pytest.mark.parametrize("field", ["version", "sequence", "created", "identity"])
def test_what_says_when_and_where_it_was_published_is_no_difference(field: str) -> None:
    other = {"version": 9, "sequence": 99, "created": "2030-01-01T00:00:00Z", "identity": "0" * 64}[field]
    found = compare(A, A.model_copy(update={field: other}))
    assert (dict(found.sections), found.metrics) == ({}, ())


def test_every_field_of_the_provenance_is_compared() -> None:
    """A field that is added to Provenance must be given a place in the comparison: this test says so."""
    data = DataSource(source="x", digest="0" * 64, samples=1)
    others: dict[str, Any] = {
        "source": A.provenance.source.model_copy(update={"revision": "r"}),
        "calibration": data,
        "evaluation": data,
        "recipe": "x",
        "recipe_digest": "0" * 64,
        "recipe_content": {"x": 1},
        "parameters": {"x": 1},
        "packages": {"x": "1"},
        "device": {"x": "1"},
        "code": "x",
        "parents": ("0" * 64,),
    }
    assert others.keys() == type(A.provenance).model_fields.keys()
    for name, value in others.items():
        assert changed(**{name: value}).sections, name


def test_sections() -> None:
    packages = A.provenance.packages | {"torch": "2.14.0", "new": "1"}
    del packages["onnx"]
    assert only(changed(packages=packages), "packages") == {
        "torch": ("2.13.0", "2.14.0"),
        "onnx": ("1.23.0", None),
        "new": (None, "1"),
    }
    parameters = {"calibration": {"samples": 1024, "batch": 16}, "targets": ["onnxruntime"], "gates": {}}
    assert only(changed(parameters=parameters), "parameters") == {
        "calibration.samples": (512, 1024),
        "targets": (["onnxruntime", "trtrtx-sm89"], ["onnxruntime"]),
    }
    content = {"quantize": {"algorithm": "max", "quant_cfg": [{"quantizer_name": "*", "enable": False}]}}
    assert only(changed(recipe_content=content), "recipe") == {
        "content.quantize.quant_cfg[0].quantizer_name": (None, "*"),
        "content.quantize.quant_cfg[0].enable": (None, False),
    }
    assert only(changed(calibration=None), "calibration").keys() == {
        "source", "digest", "samples", "skipped", "truncated",
    }  # fmt: skip
    assert only(changed(device={"cpu": "x86-64", "cores": 2, "gpu": "L4"}), "device") == {"gpu": (None, "L4")}


def test_gates_and_files() -> None:
    def gate(status: Any) -> GateResult:
        return GateResult(name="min_cosine_mean", status=status, min=0.9, metric="cosine_mean", encoder="text")

    found = compare(
        A.model_copy(update={"gates": (gate("passed"),)}), A.model_copy(update={"gates": (gate("failed"),)})
    )
    assert only(found, "gates") == {"min_cosine_mean cosine_mean text": ("passed", "failed")}
    file = ReleaseFile(path="a/b", kind="x", object="a" * 64, member="b", sha256="b" * 64, size=3)
    moved = file.model_copy(update={"object": "c" * 64, "member": "d"})
    old, new = (A.model_copy(update={"files": (one,)}) for one in (file, file.model_copy(update={"sha256": "c" * 64})))
    assert only(compare(old, new), "files") == {
        "a/b": ({"sha256": "b" * 64, "size": 3}, {"sha256": "c" * 64, "size": 3})
    }
    assert compare(old, A.model_copy(update={"files": (moved,)})).sections == {}  # the same bytes in another object


def test_the_graph_and_the_scales() -> None:
    rows = coverage_rows(3, True)
    rows[0] = rows[0] | {"input_scale": 2 * float(rows[0]["input_scale"] or 0)}
    found = compare(A, build_manifest(measured=True, tables={"coverage": rows}))
    assert [(change.before, change.after) for change in found.sections["graph"]] == [("fp8", "fp16")]
    by_metric = {change.about.metric: change for change in found.metrics}
    doubled = by_metric[f"{rows[0]['module']} linear input_scale"]
    assert doubled.before is not None and doubled.change == pytest.approx(doubled.before.value)
    lost = [change for change in found.metrics if change.after is None]  # a module in FP16 has no scales
    assert {change.about.metric.rpartition(" ")[2] for change in lost} == {"input_scale", "weight_scale"}
    assert all(change.change is None for change in lost)


def test_metrics_with_their_intervals() -> None:
    rows = [row | {"low": -0.5} if row["metric"] == "top1_difference" else row for row in accuracy_rows()]
    (change,) = compare(A, build_manifest(measured=True, tables={"accuracy": rows})).metrics
    assert change.document() == {
        "table": "accuracy",
        "encoder": "both",
        "target": "onnxruntime",
        "precision": "fp8",
        "reference": "fp16",
        "metric": "top1_difference",
        "unit": "fraction",
        "before": {"value": -0.0022, "low": -0.0061, "high": 0.0016},
        "after": {"value": -0.0022, "low": -0.5, "high": 0.0016},
        "change": 0.0,
    }


def test_states_of_a_table_are_compared_too() -> None:
    found = compare(A, build_manifest(measured=False))
    names = [change.name for change in found.sections["tables"]]
    assert "latency: image trtrtx-sm89 fp8 batch 8 status" in names
    assert "latency: image trtrtx-sm89 fp8 batch 8 note" in names
    assert {change.about.table for change in found.metrics} == {"latency"}


def test_the_document_is_json() -> None:
    found = compare(A, build_manifest(4, tables={"latency": latency_rows(False)}))
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert len(document["metrics"]) == len(found.metrics) > 50


KEYS = st.text("abc", min_size=1, max_size=3)
JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@given(JSON, JSON)
def test_flattening_keeps_every_difference(before: Any, after: Any) -> None:
    assert (_flat({"value": before}) == _flat({"value": after})) == (before == after)
