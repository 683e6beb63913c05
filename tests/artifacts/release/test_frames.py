"""Tables: rows keep to their schema, come back from Parquet as they went in, and add up to the headline."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from artifacts.errors import ClipsmithError, NumericError, TableError
from artifacts.manifest import Manifest, Row
from artifacts.release.frames import headline, to_frame, write_tables
from artifacts.schema import SCHEMAS
from tests.wording import refusal

MakeManifest = Callable[..., Manifest]


@pytest.fixture
def latency(manifest_of: MakeManifest) -> Row:
    return dict(manifest_of().tables["latency"][0])


def test_parquet_gives_back_every_row(tmp_path: Path, manifest_of: MakeManifest) -> None:
    tables = manifest_of(unavailable="no such GPU").tables
    write_tables(tables, tmp_path)
    for name, rows in tables.items():
        frame = pandas.read_parquet(tmp_path / f"{name}.parquet")
        back = [
            {key: None if value is pandas.NA else value for key, value in r.items()} for r in frame.to_dict("records")
        ]
        assert back == list(rows)


def test_all_tables_are_written_even_without_rows_but_optional_ones(tmp_path: Path) -> None:
    write_tables({}, tmp_path / "new" / "folder")
    written = {path.stem: pandas.read_parquet(path) for path in (tmp_path / "new" / "folder").iterdir()}
    assert sorted(written) == ["accuracy", "coverage", "encoders", "latency", "sizes", "stages"]
    for name, frame in written.items():
        assert list(frame.columns) == [column.name for column in SCHEMAS[name].columns]
        assert frame.dtypes.equals(to_frame(name, []).dtypes)
        assert len(frame) == 0


def test_columns_are_in_the_schemas_order_whatever_the_rows_order(latency: Row) -> None:
    frame = to_frame("latency", [dict(reversed(latency.items()))])
    assert list(frame.columns) == [column.name for column in SCHEMAS["latency"].columns]


def test_nullable_columns_keep_their_type_when_all_values_are_null(manifest_of: MakeManifest) -> None:
    dtypes = to_frame("latency", manifest_of().tables["latency"]).dtypes
    assert (str(dtypes["speedup"]), str(dtypes["rounds"]), str(dtypes["note"])) == ("Float64", "Int64", "string")


def test_units_and_meanings_travel_with_the_file(tmp_path: Path) -> None:
    write_tables({}, tmp_path)
    assert pandas.read_parquet(tmp_path / "sizes.parquet").attrs["columns"]["bytes"]["unit"] == "bytes"


def test_every_column_says_what_it_is() -> None:
    assert all(column.about for table in SCHEMAS.values() for column in table.columns)


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"surprise": 1}, "surprise"),
        ({"batch": None}, "batch"),
        ({"batch": "8"}, "batch"),
        ({"batch": 8.0}, "batch"),
        ({"batch": True}, "batch"),
        ({"device": 3}, "device"),
    ],
)
def test_a_row_that_breaks_the_schema_is_named(latency: Row, change: Row, column: str) -> None:
    with pytest.raises(TableError, match=f"table latency, column {column}, row 1"):
        to_frame("latency", [latency, latency | change])


def test_a_missing_column_is_named(latency: Row) -> None:
    del latency["p99_ms"]
    with refusal(ClipsmithError, "table latency, column p99_ms, row 0"):
        to_frame("latency", [latency])


def test_an_unknown_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no table 'speeds'"):
        write_tables({"speeds": []}, tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused_and_nothing_is_written(tmp_path: Path, latency: Row, value: float) -> None:
    with refusal(NumericError, "table latency, column median_ms, row 0"):
        write_tables({"encoders": [], "latency": [latency | {"median_ms": value}]}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", ["emulated", "built, not run"])
def test_only_a_measured_row_may_claim_a_speedup(latency: Row, status: str) -> None:
    with pytest.raises(TableError, match="column speedup"):
        to_frame("latency", [latency | {"status": status, "speedup": 1.5}])


def test_headline_has_a_row_per_encoder_and_one_for_both(manifest_of: MakeManifest) -> None:
    image, text, both = headline(manifest_of(layers=24, wrong=True).tables)
    assert [row["encoder"] for row in (image, text, both)] == ["image", "text", "both"]
    assert (image["linears_fp8"], image["bmms_fp8"]) == ("144/145", "48/48")
    assert both["linears_fp8"] == "289/290"
    assert image["ratio"] == pytest.approx(0.506, abs=1e-6)
    assert both["fp8_onnx_mb"] == pytest.approx(image["fp8_onnx_mb"] + text["fp8_onnx_mb"])
    assert (text["cosine_mean"], text["cosine_min"]) == pytest.approx((0.99724, 0.98896))
    assert (both["top1_fp32"], both["top1_fp16"], both["top1_fp8"]) == (0.7542, 0.7541, 0.7519)
    assert image["top1_fp8"] is None
    assert image["trtrtx-sm89_fp8_mb"] == pytest.approx(image["fp8_onnx_mb"])


def test_headline_does_not_add_up_a_part(manifest_of: MakeManifest) -> None:
    tables = dict(manifest_of().tables)
    tables["sizes"] = tuple(
        row | {"bytes": None} if (row["encoder"], row["target"]) == ("text", "trtrtx-sm89") else row
        for row in tables["sizes"]
    )
    image, _, both = headline(tables)
    assert image["trtrtx-sm89_fp8_mb"] is not None
    assert both["trtrtx-sm89_fp8_mb"] is None


def test_headline_of_one_encoder_keeps_the_accuracy_of_both(manifest_of: MakeManifest) -> None:
    tables = dict(manifest_of().tables)
    tables["sizes"] = tuple(row for row in tables["sizes"] if row["encoder"] == "image")
    image, both = headline(tables)
    assert (image["encoder"], both["encoder"]) == ("image", "both")
    assert (both["top1_fp8"], both["fp8_onnx_mb"], both["linears_fp8"]) == (0.7519, None, None)


def test_headline_of_nothing_is_empty() -> None:
    assert headline({}) == []


def test_importing_costs_neither_pandas_nor_matplotlib() -> None:
    code = "import sys, artifacts.report.page\n"
    code += "print(sorted({'pandas', 'matplotlib', 'jinja2', 'torch'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
