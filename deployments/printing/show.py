"""One release: tables for people, a document for programs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts import places
from artifacts.keeping import render
from artifacts.manifest import GateResult, Manifest, Row
from artifacts.number_words import NONE, given, interval, megabytes, moment, percent
from artifacts.release.fastest import Choice
from artifacts.report import attention
from artifacts.report.gate_words import words
from artifacts.report.sufficiency import sentences
from artifacts.report.task_table import HEADS, TaskLine, task_lines
from artifacts.report.verdict import findings, verdict
from artifacts.schema import NOT_RUN, Tables, number
from artifacts.store.signatures import SignatureRecord
from artifacts.store.store import Store
from artifacts.store.summary import summary
from deployments.printing.console import Terminal, paragraph, plain_table, print_list, stdout
from flows.defaults import default_store

_TEXTS = (HEADS.index("metric"), HEADS.index("target"))
_FIRST_CHANGE = HEADS.index("FP16 - FP32")
_FIDELITY = {
    "cosine_mean": ("mean cosine", "{:.6f}"),
    "cosine_min": ("worst cosine", "{:.6f}"),
    "snr_db": ("signal to noise", "{:.1f} dB"),
    "rank_agreement": ("rank agreement", "{:.6f}"),
}
"""Per metric its heading, and its number."""
_PARTS = (("attention_fused", "attention"), ("products_fp8", "products"))
"""Of the table `engines`: how many, of how many."""


@dataclass(frozen=True)
class Standing:
    """What the store knows about a release besides its manifest: the aliases that point to it, and its signatures."""

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
    """Print where an export is, and the precision to run it in, one line per target."""
    stdout().say(f"{manifest.ref}: {len(files)} files in {folder}")
    for choice in chosen:
        stdout().say(f"run {choice}")


def print_release(
    manifest: Manifest,
    store: Store,
    *,
    new: bool | None = None,
    standing: Standing | None = None,
    everything: bool = False,
) -> None:
    """A release for a person: what its report says in a sentence, gates, accuracy, sizes, speed, where the report is.

    With `everything` also the details of the sentence, every row of the tables, the files, and what made them.
    """
    console = stdout()
    suffix = {True: " (new)", False: " (unchanged: published before)", None: ""}[new]
    console.print()
    console.say((manifest.ref, "bold"), f"{suffix}  identity {manifest.identity[:12]}  {moment(manifest.created)}")
    if standing is not None:
        _print_standing(console, standing)
    _print_findings(console, manifest, everything)
    if manifest.gates:
        print_gates(console, manifest.gates)
    print_task(console, task_lines(manifest.tables, with_p=everything), everything=everything)
    _print_sizes(console, manifest.tables)
    _print_engines(console, manifest.tables, manifest.provenance.recipe)
    _print_speed(console, manifest.tables, everything)
    _print_fidelity(console, manifest.tables, everything)
    if everything:
        _print_calibration(console, manifest.tables)
        _print_origin(console, manifest)
    for sentence in sentences(manifest.tables.get("sufficiency", ())):
        paragraph(console, f"calibration samples, {sentence}", indent=0)
    if any(file.path == places.REPORT for file in manifest.files):
        console.print()
        console.say(f"report: {render.report_path(store, manifest)}")
    if new is not None and not manifest.rejected:
        _print_next(console, manifest, store)
    if new is False and not manifest.rejected:
        console.say(f"nothing new: this run's work is {manifest.ref}, published before")


def _print_next(console: Terminal, manifest: Manifest, store: Store) -> None:
    """Print commands that are useful after a run; for a rejected release, the error says what to do."""
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


def _print_findings(console: Terminal, manifest: Manifest, everything: bool) -> None:
    """What it was made from, the sentence of the report, and what needs attention or, if asked for, all details."""
    of = manifest.provenance
    origin = f"{of.source.name} at {of.source.revision[:12]}, recipe {of.recipe}, evaluated on {of.evaluation.source}"
    paragraph(console, f"{origin}, {of.evaluation.samples:,} samples", indent=0)
    found = findings(manifest.tables, manifest.gates, of.notes)
    console.print()
    paragraph(console, verdict(found), indent=0)
    for finding in found:
        if everything or finding.level in ("bad", "attention"):
            paragraph(console, f"{finding.title}: {finding.figure}. {finding.detail}", indent=2)
    console.print()


def print_gates(console: Terminal, results: Sequence[GateResult]) -> None:
    """A line for each result; without a column of intervals where no gate has one."""
    rows = [(result.name, result.status, *words(result)) for result in results]
    heads = ("gate", "result", "judged", "of", ">measured", ">95 % interval", ">asked for")
    known = [place for place, head in enumerate(heads) if "interval" not in head or any(row[place] for row in rows)]
    table = plain_table("gates", *(heads[place] for place in known), whole=("gate", "result", "measured"))
    for row in rows:
        table.add_row(*(row[place] for place in known))
    console.print(table)


def print_task(console: Terminal, lines: Sequence[TaskLine], *, everything: bool = False) -> None:
    """What the task makes of each precision; nothing where no task was scored.

    Columns in which nothing is are left out. Unless `everything` is asked for, so are a target that all lines have, and
    differences but the one that a release is judged by: FP8 less FP16 where both were measured.
    """
    if not lines:
        return
    known = [place for place, cells in enumerate(zip(*lines, strict=True)) if set(cells) != {NONE}]
    title = "accuracy (differences in points)"
    if not everything:
        known = [place for place in known if place < _FIRST_CHANGE] + known[-1:]
        if len({line.target for line in lines}) == 1:
            known.remove(HEADS.index("target"))
            title = f"accuracy on {lines[0].target} (differences in points, with 95 % intervals)"
    table = plain_table(title, *(HEADS[place] if place in _TEXTS else f">{HEADS[place]}" for place in known))
    for line in lines:
        table.add_row(*(line[place] for place in known))
    console.print(table)


def _print_sizes(console: Terminal, tables: Tables) -> None:
    table = plain_table("sizes", "encoder", "file", ">FP16", ">FP8", ">FP8/FP16")
    sizes = {(r["encoder"], r["target"], r["precision"]): r for r in tables.get("sizes", ())}
    for encoder, target in dict.fromkeys((e, t) for e, t, _ in sizes):
        rows = [sizes.get((encoder, target, precision), {}) for precision in ("fp16", "fp8")]
        cells = [megabytes(number(row, "bytes") or 0, 2) if row else "-" for row in rows]
        share = number(rows[1], "vs_fp16")
        table.add_row(str(encoder), str(target), *cells, "-" if share is None else percent(share))
    console.print(table)


def _print_engines(console: Terminal, tables: Tables, recipe: str) -> None:
    """What the builders made: attention blocks that are one kernel, products in FP8, launches; what a recipe asked."""
    rows = tables.get("engines", ())
    heads = ("encoder", "target", "precision", ">attention fused", ">products in FP8", ">unknown", ">launches")
    table = plain_table("engines, as their builders made them", *heads, whole=heads[:2])
    for row in rows:
        cells = [str(row[name]) for name in ("encoder", "target", "precision")]
        cells += [f"{row[of]}/{row[all_]}" for of, all_ in _PARTS]
        table.add_row(*cells, str(row["unknown"]), given(row["launches"], "{}"))
    if rows:
        console.print(table)
    for sentence in attention.sentences(tables.get("attention", ())):
        paragraph(console, f"recipe {recipe}, {sentence}", indent=0)


def _print_speed(console: Terminal, tables: Tables, everything: bool) -> None:
    """Median times of a batch, with the speed-up's interval; also how late the latest calls were."""
    rows = tables.get("latency", ())
    late = ("p95", "p99") if everything else ()
    heads = ("encoder", "target", ">batch", ">FP16", ">FP8", *(f">FP8 {name}" for name in late), ">speed-up", "status")
    table = plain_table("speed (median time of a batch)", *heads, whole=heads[:2])
    timed: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        if row["status"] != NOT_RUN:
            key = (str(row["encoder"]), str(row["target"]), str(row["batch"]))
            timed.setdefault(key, {})[str(row["precision"])] = row
    for where, pair in timed.items():
        fp8, states = pair.get("fp8", {}), dict.fromkeys(str(row["status"]) for row in pair.values())
        times = [given(pair.get(name, {}).get("median_ms"), "{:.2f} ms") for name in ("fp16", "fp8")]
        times += [given(fp8.get(f"{name}_ms"), "{:.2f} ms") for name in late]
        ends = interval(fp8.get("speedup_low"), fp8.get("speedup_high"), "{:.2f}")
        speedup = given(fp8.get("speedup"), "{:.2f}x") + ends
        table.add_row(*where, *times, speedup, ", ".join(states))
    if timed:
        console.print(table)
    for target, note in dict.fromkeys((row["target"], row["note"]) for row in rows if row["status"] == NOT_RUN):
        paragraph(console, f"{target}: built, not run here ({note})", indent=0)


def _print_fidelity(console: Terminal, tables: Tables, everything: bool) -> None:
    """How close the embeddings are to FP32's: a line per encoder, of its worst target, or every number."""
    rows = [row for row in tables.get("accuracy", ()) if row["metric"] in _FIDELITY]
    if everything:
        table = plain_table("fidelity", "encoder", "target", "precision", "against", "metric", ">value")
        for row in rows:
            cells = [str(row[name]) for name in ("encoder", "target", "precision", "reference", "metric")]
            table.add_row(*cells, given(row["value"], "{:.4f}"))
        console.print(table)
        return
    precision = "fp8" if any(row["precision"] == "fp8" for row in rows) else "fp16"
    title = f"fidelity ({precision.upper()} against FP32; of several targets the worst)"
    table = plain_table(title, "encoder", *(f">{head}" for head, _ in _FIDELITY.values()))
    compared = [row for row in rows if (row["precision"], row["reference"]) == (precision, "fp32")]
    for encoder in dict.fromkeys(str(row["encoder"]) for row in compared):
        cells = []
        for metric, (_, pattern) in _FIDELITY.items():
            found = [
                value
                for row in compared
                if (row["encoder"], row["metric"]) == (encoder, metric) and (value := number(row, "value")) is not None
            ]
            cells.append(given(min(found, default=None), pattern))
        table.add_row(encoder, *cells)
    if compared:
        console.print(table)


def _print_calibration(console: Terminal, tables: Tables) -> None:
    """How the methods compared on held-out samples."""
    rows = tables.get("calibration", ())
    heads = ("encoder", "method", ">samples", ">held out", ">cosine", ">worst", ">SNR", ">p", "chosen")
    table = plain_table("calibration (held-out samples against FP32)", *heads)
    for row in rows:
        cells = [str(row[name]) for name in ("encoder", "method", "samples", "held_out")]
        cells += [given(row[name], "{:.6f}") for name in ("cosine_mean", "cosine_min")]
        table.add_row(*cells, given(row["snr_db"], "{:.2f} dB"), given(row["p"], "{:.2g}"), str(row["chosen"]))
    if rows:
        console.print(table)


def _print_origin(console: Terminal, manifest: Manifest) -> None:
    """The files, and what made them: packages, machine and code."""
    console.say(("files", "bold"))
    rows = [(file.path, megabytes(file.size), file.sha256[:12]) for file in manifest.files]
    print_list(console, ("file", ">size", "sha256"), rows)
    of = manifest.provenance
    calibration = of.calibration
    made = {
        "calibrated on": "-" if calibration is None else f"{calibration.source}, {calibration.samples:,} samples",
        "code": of.code,
        "device": ", ".join(f"{name} {value}" for name, value in of.device.items()),
        "packages": ", ".join(f"{name} {version}" for name, version in of.packages.items()),
        "parents": ", ".join(parent[:12] for parent in of.parents) or "-",
    }
    for name, text in made.items():
        paragraph(console, f"{name}: {text}", indent=0)
