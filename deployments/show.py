"""What the command line prints: tables for people, documents for programs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from artifacts.errors import ClipsmithError
from artifacts.gate_words import words
from artifacts.manifest import Manifest, Row
from artifacts.schema import NOT_RUN
from artifacts.store import Store
from artifacts.verdict import findings


def print_error(error: ClipsmithError) -> None:
    """An expected error, on stderr."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}")


def summary(manifest: Manifest) -> dict[str, Any]:
    """One release in a list."""
    return {
        "ref": manifest.ref,
        "model": manifest.model,
        "version": manifest.version,
        "identity": manifest.identity,
        "created": manifest.created,
        "status": manifest.status,
        "gates": dict(Counter(result.status for result in manifest.gates)),
        "recipe": manifest.provenance.recipe,
        "source": manifest.provenance.source.name,
        "revision": manifest.provenance.source.revision,
        "bytes": sum(file.size for file in manifest.files),
    }


def release_document(manifest: Manifest, *, new: bool | None = None) -> dict[str, Any]:
    """Everything about one release: its reference, every artifact with digest and size, every table row."""
    document: dict[str, Any] = {
        "ref": manifest.ref,
        "release": summary(manifest),
        "status": manifest.status,
        "gates": [result.model_dump(mode="json") for result in manifest.gates],
        "artifacts": [file.model_dump(mode="json", exclude_none=True) for file in manifest.files],
        "tables": {name: list(rows) for name, rows in manifest.tables.items()},
        "provenance": manifest.provenance.model_dump(mode="json"),
    }
    return document if new is None else document | {"new": new}


def print_releases(manifests: Sequence[Manifest]) -> None:
    """The list, newest first."""
    table = Table(box=None, pad_edge=False)
    for name in ("release", "status", "created", "recipe", "source", "size"):
        table.add_column(name, justify="right" if name == "size" else "left")
    for manifest in manifests:
        item = summary(manifest)
        cells = [item[name] for name in ("ref", "status", "created", "recipe")]
        table.add_row(*cells, escape(item["source"]), f"{item['bytes'] / 1e6:.1f} MB")
    console = Console()
    console.print(table if manifests else "no releases yet: run `clipsmith optimize demo`")


def print_exported(manifest: Manifest, folder: Path) -> None:
    """Where an export went."""
    Console().print(f"{manifest.ref}: {len(manifest.files) + 1} files in {folder}", soft_wrap=True)


def print_release(manifest: Manifest, store: Store, *, new: bool | None = None) -> None:
    """A release's tables for a person: headline, accuracy, latency, and where the report is."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    suffix = {True: " (new)", False: " (unchanged: published before)", None: ""}[new]
    console.print(f"\n[bold]{manifest.ref}[/]{suffix}  identity {manifest.identity[:12]}  {manifest.created}")
    provenance = manifest.provenance
    console.print(
        escape(f"{provenance.source.name} at {provenance.source.revision[:12]}, recipe {provenance.recipe}, ")
        + escape(f"evaluated on {provenance.evaluation.source}, {provenance.evaluation.samples} samples"),
        soft_wrap=True,
    )
    for finding in findings(manifest.tables, manifest.gates):
        console.print(
            f"  [bold]{escape(finding.title)}: {escape(finding.figure)}[/]. {escape(finding.detail)}", soft_wrap=True
        )
    _print_gates(console, manifest)
    _print_sizes(console, manifest)
    _print_accuracy(console, manifest)
    _print_latency(console, manifest)
    console.print(f"\nreport: {store.read(manifest, 'report.html')}", soft_wrap=True, highlight=False)


def _print_gates(console: Console, manifest: Manifest) -> None:
    table = _table("gates", "gate", "result", "judged", "of", ">measured", ">asked for")
    for result in manifest.gates:
        table.add_row(result.name, result.status, *map(escape, words(result)))
    if manifest.gates:
        console.print(table)


def _print_sizes(console: Console, manifest: Manifest) -> None:
    table = _table("sizes", "encoder", "file", ">fp16", ">fp8", ">fp8/fp16")
    sizes = {(r["encoder"], r["target"], r["precision"]): r for r in manifest.tables["sizes"]}
    for encoder, target in dict.fromkeys((e, t) for e, t, _ in sizes):
        fp16, fp8 = (sizes.get((encoder, target, p)) for p in ("fp16", "fp8"))
        ratio = None if fp8 is None else fp8["vs_fp16"]
        table.add_row(str(encoder), str(target), _megabytes(fp16), _megabytes(fp8), _number(ratio, "{:.1%}"))
    console.print(table)


def _print_accuracy(console: Console, manifest: Manifest) -> None:
    table = _table("accuracy", "encoder", "target", "precision", "against", "metric", ">value", ">95 % interval")
    shown = ("cosine_mean", "cosine_min", "snr_db")
    for row in manifest.tables["accuracy"]:
        if row["encoder"] == "both" or row["metric"] in shown:
            low, high = row["low"], row["high"]
            interval = "" if low is None else f"{low:+.4f} to {high:+.4f}"
            cells = [str(row[name]) for name in ("encoder", "target", "precision", "reference", "metric")]
            table.add_row(*cells, _number(row["value"], "{:.4f}"), interval)
    console.print(table)


def _print_latency(console: Console, manifest: Manifest) -> None:
    table = _table("latency", "encoder", "target", "precision", ">batch", ">median", ">p95", ">p99", "status")
    rows = manifest.tables["latency"]
    for row in (row for row in rows if row["status"] != NOT_RUN):
        cells = [str(row[name]) for name in ("encoder", "target", "precision", "batch")]
        times = [_number(row[name], "{:.2f} ms") for name in ("median_ms", "p95_ms", "p99_ms")]
        speedup = "" if row["speedup"] is None else f", speedup {row['speedup']:.2f}x"
        table.add_row(*cells, *times, f"{row['status']}{speedup}")
    console.print(table)
    for target, note in dict.fromkeys((row["target"], row["note"]) for row in rows if row["status"] == NOT_RUN):
        console.print(f"{target}: built, not run here ({note})", highlight=False)


def _table(title: str, *columns: str) -> Table:
    """A plain table; a column whose name starts with `>` is right-aligned."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table


def _number(value: Any, pattern: str) -> str:
    return "-" if value is None else pattern.format(value)


def _megabytes(row: Row | None) -> str:
    return "-" if row is None else f"{float(row['bytes'] or 0) / 1e6:.2f} MB"
