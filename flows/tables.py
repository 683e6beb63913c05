"""Rows of the release's tables from what the steps returned."""

from __future__ import annotations

from collections.abc import Iterable

from artifacts.manifest import Row
from tasks.pipeline.engine_build import BuiltEngine
from tasks.pipeline.graph_audit import GraphAudit
from tasks.runs.step_cost import StepStats


def stage_row(
    step: str,
    stats: StepStats,
    encoder: str | None = None,
    precision: str | None = None,
    target: str | None = None,
) -> Row:
    """What one step cost when it ran."""
    return {
        "step": step,
        "encoder": encoder,
        "precision": precision,
        "target": target,
        "wall_s": stats.wall_s,
        "peak_rss_mb": stats.peak_rss_mb,
    }


def encoder_rows(audits: Iterable[GraphAudit]) -> list[Row]:
    """One row per encoder."""
    return list({audit.encoder: audit.encoder_row for audit in audits}.values())


def coverage_rows(audits: Iterable[GraphAudit]) -> list[Row]:
    """One row per product or weight of every graph."""
    return [row for audit in audits for row in audit.coverage]


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
    return {
        "encoder": encoder,
        "precision": precision,
        "target": target,
        "bytes": size,
        "vs_fp16": None,
        "fp8_bytes": None,
        "fp16_bytes": None,
        "other_bytes": None,
        "status": "built",
    }
