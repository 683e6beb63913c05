"""A release's rows as pandas frames and Parquet files, and the few numbers people look for first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.manifest import Cell, Row
from artifacts.schema import Kind, Tables, check_rows, check_tables, number, present

if TYPE_CHECKING:
    import pandas

_DTYPES: dict[Kind, str] = {"str": "string", "int": "Int64", "float": "Float64"}
_PRECISIONS = ("fp32", "fp16", "fp8")
_MB = 1_000_000


def to_frame(name: str, rows: Sequence[Row]) -> pandas.DataFrame:
    """Table `name` as a frame: columns in the schema's order, nullable types, units and meanings in `attrs`.

    Raises:
        TableError, NumericError: see `artifacts.schema.check_tables`.
    """
    import pandas

    schema = check_rows(name, rows)
    columns = {
        column.name: pandas.Series([row[column.name] for row in rows], dtype=_DTYPES[column.kind])
        for column in schema.columns
    }
    frame = pandas.DataFrame(columns)
    frame.attrs = {
        "table": schema.about,
        "columns": {column.name: {"about": column.about, "unit": column.unit} for column in schema.columns},
    }
    return frame


def write_tables(tables: Tables, folder: Path) -> None:
    """Write `<name>.parquet` for every table; one without rows is written empty, unless it is optional.

    Raises:
        TableError, NumericError: nothing was written.
    """
    check_tables(tables)
    folder.mkdir(parents=True, exist_ok=True)
    for name in present(tables):
        to_frame(name, tables.get(name, ())).to_parquet(folder / f"{name}.parquet", index=False)


def headline(tables: Tables) -> list[Row]:
    """One row per encoder, and one for both together: sizes, coverage, agreement with FP32, zero-shot accuracy.

    Sizes are in MB (10^6 bytes). Every row has the same columns; those at the end depend on the engine targets.
    """
    encoders = tuple(dict.fromkeys(row["encoder"] for row in tables.get("sizes", ())))
    groups: list[tuple[Cell, tuple[Cell, ...]]] = [(encoder, (encoder,)) for encoder in encoders]
    if len(encoders) > 1 or any(row["encoder"] == "both" for row in tables.get("accuracy", ())):
        # With one encoder optimized, both together still have an accuracy, but no sizes of their own.
        groups.append(("both", encoders if len(encoders) > 1 else ()))
    return [_headline_row(tables, name, members) for name, members in groups]


def _headline_row(tables: Tables, name: Cell, members: Sequence[Cell]) -> Row:
    fp16, fp8 = (_megabytes(tables, members, precision, "onnx") for precision in ("fp16", "fp8"))
    row: Row = {
        "encoder": name,
        "fp16_onnx_mb": fp16,
        "fp8_onnx_mb": fp8,
        "ratio": fp8 / fp16 if fp8 is not None and fp16 else None,
        "linears_fp8": _share(tables, members, ("linear",)),
        "bmms_fp8": _share(tables, members, ("bmm_qk", "bmm_pv")),
    }
    for metric in ("cosine_mean", "cosine_min", "rank_agreement"):
        row[metric] = _accuracy(tables, name, "fp8", metric)
    for precision in _PRECISIONS:
        row[f"top1_{precision}"] = _accuracy(tables, name, precision, "top1")
    for target in dict.fromkeys(row["target"] for row in tables.get("sizes", ()) if row["target"] != "onnx"):
        for precision in ("fp16", "fp8"):
            row[f"{target}_{precision}_mb"] = _megabytes(tables, members, precision, target)
    return row


def _megabytes(tables: Tables, members: Sequence[Cell], precision: str, target: Cell) -> float | None:
    """The size of all `members` together; None if one of them has none (a partial sum would mislead)."""
    sizes = {
        row["encoder"]: number(row, "bytes")
        for row in tables.get("sizes", ())
        if row["precision"] == precision and row["target"] == target
    }
    known = [size for size in map(sizes.get, members) if size is not None]
    return sum(known) / _MB if known and len(known) == len(members) else None


def _share(tables: Tables, members: Sequence[Cell], kinds: Sequence[str]) -> str | None:
    """`x/y`: of the y modules of these kinds, x are FP8 in the FP8 graph."""
    found = [
        row["actual"]
        for row in tables.get("coverage", ())
        if row["encoder"] in members and row["precision"] == "fp8" and row["kind"] in kinds
    ]
    return f"{found.count('fp8')}/{len(found)}" if found else None


def _accuracy(tables: Tables, encoder: Cell, precision: str, metric: str) -> float | None:
    """The value of ONNX Runtime, the target that every release has; for FP32, which ran in PyTorch, of any target."""
    key = (encoder, precision, metric, "labels" if metric.startswith("top") else "fp32")
    values = {
        row["target"]: number(row, "value")
        for row in tables.get("accuracy", ())
        if (row["encoder"], row["precision"], row["metric"], row["reference"]) == key
    }
    fallback = next(iter(values.values()), None) if precision == "fp32" else None
    return values.get("onnxruntime", fallback)
