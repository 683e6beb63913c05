"""Every number of the tables, once, and nothing else."""

from __future__ import annotations

from artifacts.release.measurements import measurements, texts
from artifacts.schema import SCHEMAS
from tests.artifacts.conftest import build_manifest, latency_rows, make_row

TABLES = build_manifest(measured=True, unavailable="no GPU").tables


def test_every_number_is_there_once() -> None:
    found = list(measurements(TABLES))
    assert len({one.key for one in found}) == len(found)
    numbers = sorted(x for one in found for x in (one.value, one.low, one.high) if x is not None)
    expected = []
    for name, rows in TABLES.items():
        about = {"batch", *(("samples",) if name == "accuracy" else ())}
        columns = [c.name for c in SCHEMAS[name].columns if c.kind != "str" and c.name not in about]
        expected += [float(row[c]) for row in rows for c in columns if row[c] is not None]  # type: ignore[arg-type]
    assert numbers == sorted(expected)


def test_names_units_and_intervals() -> None:
    by_key = {one.key: one for one in measurements(TABLES)}
    speedup = by_key["latency", "image", "trtrtx-sm89", "fp8", None, "batch 8 speedup"]
    assert (speedup.value, speedup.low, speedup.high, speedup.unit) == (1.61, 1.58, 1.64, "ratio")
    assert by_key["stages", "text", "trtrtx-sm89", "fp16", None, "engine build wall_s"].unit == "s"
    assert by_key["sizes", "image", "onnx", "fp8", None, "bytes"].unit == "bytes"
    assert by_key["accuracy", "both", "onnxruntime", "fp8", "labels", "top1"].unit == "fraction"
    assert by_key["accuracy", "text", "onnxruntime", "fp8", "fp32", "snr_db"].unit == "dB"
    module = "vision_model.encoder.layers.0.self_attn"
    scales = [
        by_key["coverage", "image", None, "fp8", None, f"{module} {kind} input_scale"] for kind in ("bmm_qk", "bmm_pv")
    ]
    assert scales[0].value != scales[1].value


def test_what_has_no_value_is_left_out() -> None:
    row = make_row("latency", encoder="image", target="t", precision="fp8", batch=1, status="built, not run")
    assert list(measurements({"latency": [row]})) == []
    assert list(measurements({})) == []


def test_texts_are_the_words_of_the_tables() -> None:
    found = {(table, about): text for table, about, text in texts({"latency": latency_rows(False)})}
    assert found["latency", "text trtrtx-sm89 fp16 batch 1 status"] == "built, not run"
    assert found["latency", "text onnxruntime fp16 batch 1 note"] is None
    assert not any(about.endswith(("encoder", "target", "precision")) for _, about in found)
