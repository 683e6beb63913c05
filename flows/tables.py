"""Rows of the release's tables, made from the steps' outputs."""

from __future__ import annotations

from collections.abc import Iterable

from artifacts.manifest import Row
from artifacts.schema import BUILT, new_row
from tasks.pipeline.engine_build import BuiltEngine
from tasks.pipeline.graph_audit import GraphAudit


def size_rows(audits: Iterable[GraphAudit], engines: Iterable[BuiltEngine]) -> list[Row]:
    """One row per file, with its size relative to FP16's."""
    rows = [
        _size(a.encoder, a.precision, "onnx", a.file_bytes)
        | {f"{name}_bytes": size for name, size in a.weight_bytes.items()}
        for a in audits
    ]
    rows += [_size(e.encoder, e.precision, e.target, e.size) for e in engines]
    baseline = {(r["encoder"], r["target"]): r["bytes"] for r in rows if r["precision"] == "fp16"}
    for row in rows:
        reference = baseline.get((row["encoder"], row["target"]))
        if reference is not None:
            row["vs_fp16"] = float(row["bytes"] or 0) / float(reference)
    return rows


def _size(encoder: str, precision: str, target: str, size: int) -> Row:
    return new_row("sizes", encoder=encoder, precision=precision, target=target, bytes=size, status=BUILT)
