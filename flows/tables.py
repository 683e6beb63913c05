"""Rows of the release's tables, made from the steps' outputs."""

from __future__ import annotations

from collections.abc import Iterable

from artifacts.manifest import Encoder, Precision, Row
from artifacts.schema import BUILT, new_row
from tasks.engines.plan import Made
from tasks.pipeline.attention_probe import Probed
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


def engine_rows(audits: Iterable[GraphAudit], engines: Iterable[BuiltEngine]) -> list[Row]:
    """One row per engine that tells what its builder made: of the graph's attention blocks and matrix products."""
    graphs = {(audit.encoder, audit.precision): audit.coverage for audit in audits}
    return [
        new_row("engines", encoder=e.encoder, target=e.target, precision=e.precision, launches=e.made.launches)
        | _made(e.made, graphs[e.encoder, e.precision])
        for e in engines
        if e.made is not None
    ]


def attention_rows(
    encoder: Encoder, targets: Iterable[str], probed: Iterable[Probed], precision: Precision
) -> list[Row]:
    """One row per target, with what its builder said of the encoder's attention, if it was asked; without targets, one
    row for the graph."""
    found = {probe.target: probe for probe in probed}
    rows = [
        new_row("attention", encoder=encoder, target=target, precision=precision) for target in (targets or ("onnx",))
    ]
    words = {True: "yes", False: "no", None: "unknown"}
    return [
        row | {"tokens": probe.tokens, "fused": words[probe.fused], "builder": probe.builder}
        if (probe := found.get(str(row["target"]))) and probe.builder is not None
        else row
        for row in rows
    ]


def _made(made: Made, coverage: Iterable[Row]) -> Row:
    """The cells on attention blocks and products; `coverage` are the rows of the graph, which name its nodes."""
    wanted = {str(row["node"]): row for row in coverage if row["kind"] in ("linear", "bmm_qk", "bmm_pv")}
    blocks: dict[str, set[str]] = {}
    for node, row in wanted.items():
        if row["kind"] != "linear":
            blocks.setdefault(str(row["module"]), set()).add(node)
    fused, apart = ([name for name, nodes in blocks.items() if made.fuses(nodes) is told] for told in (True, False))
    known = {node: made.products[node] for node in wanted if made.products.get(node, "unknown") != "unknown"}
    fp8 = [node for node, precision in known.items() if precision == "fp8"]
    fell = [node for node in known if wanted[node]["actual"] == "fp8" and node not in fp8]
    return {
        "attention": len(blocks),
        "attention_fused": len(fused),
        "fused_share": len(fused) / len(blocks) if blocks and len(fused) + len(apart) == len(blocks) else None,
        "apart": _some(apart),
        "products": len(wanted),
        "products_fp8": len(fp8),
        "fp8_share": len(fp8) / len(wanted) if wanted and len(known) == len(wanted) else None,
        "not_fp8": _some(fell),
        "unknown": len(wanted) - len(known),
    }


def _some(names: list[str]) -> str | None:
    """The first of the names, and how many more there are; None if there is none."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "") if names else None


def _size(encoder: str, precision: str, target: str, size: int) -> Row:
    return new_row("sizes", encoder=encoder, precision=precision, target=target, bytes=size, status=BUILT)
