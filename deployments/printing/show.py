"""One release: tables for people, a document for programs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts import places
from artifacts.keeping import render
from artifacts.manifest import GateResult, Manifest
from artifacts.number_words import given, megabytes, moment
from artifacts.release.fastest import Choice
from artifacts.report.gate_words import words
from artifacts.report.sufficiency import sentences
from artifacts.report.task_table import HEADS, TaskLine, task_lines
from artifacts.report.verdict import findings
from artifacts.schema import NOT_RUN, number
from artifacts.store.signatures import SignatureRecord
from artifacts.store.store import Store
from artifacts.store.summary import summary
from deployments.printing.console import Terminal, plain_table, stdout
from flows.defaults import default_store


@dataclass(frozen=True)
class Standing:
    """What the store says about a release beside its manifest: the aliases that point to it, and its signatures."""

    aliases: Sequence[str]
    signatures: Sequence[SignatureRecord]

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        about = {"number", "who", "created"}
        signatures = [record.model_dump(mode="json", include=about) for record in self.signatures]
        return {"aliases": list(self.aliases), "signatures": signatures}


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


def print_exported(manifest: Manifest, files: Sequence[str], folder: Path, chosen: Sequence[Choice]) -> None:
    """Where an export went, and the precision to run it in, a line for each target."""
    stdout().say(f"{manifest.ref}: {len(files)} files in {folder}")
    for choice in chosen:
        stdout().say(f"run {choice}")


def print_release(
    manifest: Manifest, store: Store, *, new: bool | None = None, standing: Standing | None = None
) -> None:
    """A release's tables for a person: headline, accuracy, latency, and where the report is."""
    console = stdout()
    suffix = {True: " (new)", False: " (unchanged: published before)", None: ""}[new]
    console.print()
    console.say((manifest.ref, "bold"), f"{suffix}  identity {manifest.identity[:12]}  {manifest.created}")
    if standing is not None:
        _print_standing(console, standing)
    provenance = manifest.provenance
    console.say(
        f"{provenance.source.name} at {provenance.source.revision[:12]}, recipe {provenance.recipe}, ",
        f"evaluated on {provenance.evaluation.source}, {provenance.evaluation.samples} samples",
    )
    for finding in findings(manifest.tables, manifest.gates, manifest.provenance.notes):
        console.say("  ", (f"{finding.title}: {finding.figure}", "bold"), f". {finding.detail}")
    if manifest.gates:
        print_gates(console, manifest.gates)
    _print_calibration(console, manifest)
    _print_sizes(console, manifest)
    _print_accuracy(console, manifest)
    _print_latency(console, manifest)
    if any(file.path == places.REPORT for file in manifest.files):
        console.print()
        console.say(f"report: {render.report_path(store, manifest)}")
    if new is not None and not manifest.rejected:
        _print_next(console, manifest, store)
    if new is False and not manifest.rejected:
        console.say(f"nothing new: this run's work is {manifest.ref}, published before")


def _print_next(console: Terminal, manifest: Manifest, store: Store) -> None:
    """The commands that make sense after a run; of a rejected release the error says what to do."""
    usual = Path(default_store()).absolute() == store.root
    where = "" if usual else f" --store {shlex.quote(str(store.root))}"
    console.say(f"next: clipsmith promote {manifest.ref} --alias production{where}")
    console.say(f"      clipsmith export {manifest.ref} DIR{where}")


def _print_standing(console: Terminal, standing: Standing) -> None:
    if standing.aliases:
        console.say("aliases: ", (", ".join(standing.aliases), "bold"))
    for record in standing.signatures:
        about = f"signature {record.number}: {record.who}, {moment(record.created)}"
        console.say(f"{about} (a claim: `clipsmith check-signature` checks it)")


def print_gates(console: Terminal, results: Sequence[GateResult]) -> None:
    """A line for each result."""
    table = plain_table("gates", "gate", "result", "judged", "of", ">measured", ">95 % interval", ">asked for")
    for result in results:
        table.add_row(result.name, result.status, *words(result))
    console.print(table)


def _print_calibration(console: Terminal, manifest: Manifest) -> None:
    """How the methods compared on held-out samples, and whether there were enough samples to calibrate on."""
    rows = manifest.tables.get("calibration", ())
    heads = ("encoder", "method", ">samples", ">held out", ">cosine", ">worst", ">SNR", ">p", "chosen")
    table = plain_table("calibration (held-out samples against FP32)", *heads)
    for row in rows:
        cells = [str(row[name]) for name in ("encoder", "method", "samples", "held_out")]
        cells += [given(row[name], "{:.6f}") for name in ("cosine_mean", "cosine_min")]
        table.add_row(*cells, given(row["snr_db"], "{:.2f} dB"), given(row["p"], "{:.2g}"), str(row["chosen"]))
    if rows:
        console.print(table)
    for sentence in sentences(manifest.tables.get("sufficiency", ())):
        console.say(f"calibration samples, {sentence}")


def _print_sizes(console: Terminal, manifest: Manifest) -> None:
    table = plain_table("sizes", "encoder", "file", ">fp16", ">fp8", ">fp8/fp16")
    sizes = {(r["encoder"], r["target"], r["precision"]): r for r in manifest.tables.get("sizes", ())}
    for encoder, target in dict.fromkeys((e, t) for e, t, _ in sizes):
        rows = [sizes.get((encoder, target, precision), {}) for precision in ("fp16", "fp8")]
        cells = [megabytes(number(row, "bytes") or 0, 2) if row else "-" for row in rows]
        table.add_row(str(encoder), str(target), *cells, given(rows[1].get("vs_fp16"), "{:.1%}"))
    console.print(table)


def _print_accuracy(console: Terminal, manifest: Manifest) -> None:
    table = plain_table("fidelity", "encoder", "target", "precision", "against", "metric", ">value")
    shown = ("cosine_mean", "cosine_min", "snr_db", "rank_agreement")
    for row in manifest.tables.get("accuracy", ()):
        if row["metric"] in shown:
            cells = [str(row[name]) for name in ("encoder", "target", "precision", "reference", "metric")]
            table.add_row(*cells, given(row["value"], "{:.4f}"))
    console.print(table)
    print_task(console, task_lines(manifest.tables))


def print_task(console: Terminal, lines: Sequence[TaskLine]) -> None:
    """What the task makes of each precision; nothing where no task was scored."""
    table = plain_table(
        "accuracy (differences in points)", *(head if head in ("metric", "target") else f">{head}" for head in HEADS)
    )
    for line in lines:
        table.add_row(*line)
    if lines:
        console.print(table)


def _print_latency(console: Terminal, manifest: Manifest) -> None:
    table = plain_table("latency", "encoder", "target", "precision", ">batch", ">median", ">p95", ">p99", "status")
    rows = manifest.tables.get("latency", ())
    for row in (row for row in rows if row["status"] != NOT_RUN):
        cells = [str(row[name]) for name in ("encoder", "target", "precision", "batch")]
        times = [given(row[name], "{:.2f} ms") for name in ("median_ms", "p95_ms", "p99_ms")]
        speedup = given(row["speedup"], ", speedup {:.2f}x", "")
        table.add_row(*cells, *times, f"{row['status']}{speedup}")
    console.print(table)
    for target, note in dict.fromkeys((row["target"], row["note"]) for row in rows if row["status"] == NOT_RUN):
        console.say(f"{target}: built, not run here ({note})")
