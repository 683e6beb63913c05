"""One release as one self-contained HTML page that a person reads in a minute."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import number_words as show
from artifacts.manifest import Cell, DataSource, GateResult, GateStatus, Manifest, Provenance, Row
from artifacts.release.evidence import Evidence
from artifacts.release.frames import headline
from artifacts.report import plots
from artifacts.report.gate_words import sentence, words
from artifacts.report.html_page import html_page
from artifacts.report.precision_map import precision_map_svg
from artifacts.report.sufficiency import sentences
from artifacts.report.task_table import HEADS, task_lines
from artifacts.report.verdict import findings, verdict
from artifacts.schema import BUILT, EMULATED, MEASURED, NOT_RUN, SCHEMAS, Column, Table, check_tables, number, present

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["Evidence", "render_report"]

_TEMPLATE = Path(__file__).with_name("page.html")
_PLOT = re.compile(
    r'<h2>([^<]+)</h2>\n<p class="caption">[^<]*</p>\n<img src="(data:image/svg\+xml;base64,[A-Za-z0-9+/=]+)"'
)
"""A plot in the rendered page. Names in the page are escaped, so they cannot match."""
_UNITS_IN_HEADER = ("ms", "s", "1/s", "MB", "MHz")
_FOLDED = ("speedup_low", "speedup_high")
_TONES = {BUILT: "good", MEASURED: "good", EMULATED: "attention", NOT_RUN: "neutral"}
# A mark beside the word, so that the page can be read without colours.
_MARKS: dict[GateStatus, tuple[str, str]] = {
    "passed": ("good", "\N{CHECK MARK}"),
    "failed": ("bad", "\N{MULTIPLICATION SIGN}"),
    "undecided": ("attention", "?"),
    "not measured": ("bad", show.NONE),
}


@dataclass(frozen=True)
class _Figure:
    """One plot with its heading; `source` is None if there is nothing to draw, and `absent` says why."""

    title: str
    caption: str
    source: str | None
    absent: str


@dataclass(frozen=True)
class _Cell:
    text: str
    numeric: bool = False
    tone: str | None = None


def render_report(manifest: Manifest, evidence: Evidence) -> str:
    """The report of a release as HTML. The same manifest and evidence give the same bytes.

    Raises:
        TableError, NumericError: a table of the manifest does not keep to its schema.
    """
    check_tables(manifest.tables)
    found = findings(manifest.tables, manifest.gates, manifest.provenance.notes)
    return html_page(
        _TEMPLATE,
        manifest=manifest,
        verdict=verdict(found),
        rejections=[sentence(result) for result in manifest.gates if result.rejects],
        gates=[_gate(result) for result in manifest.gates],
        findings=found,
        headline=_headline(manifest),
        task_heads=HEADS,
        task=task_lines(manifest.tables),
        classes=[_class(row) for row in evidence.classes if row["samples"]],
        without_samples=list(dict.fromkeys(str(row["class"]) for row in evidence.classes if not row["samples"])),
        changed=evidence.changed,
        alike=[" = ".join(group) for group in evidence.alike],
        figures=_figures(manifest, evidence),
        maps=_maps(manifest),
        tables=[_table(SCHEMAS[name], manifest.tables.get(name, ())) for name in present(manifest.tables)],
        provenance=_provenance(manifest.provenance),
        packages=sorted(manifest.provenance.packages.items()),
        parameters=json.dumps(manifest.provenance.parameters, indent=2, sort_keys=True, ensure_ascii=False),
    )


def plots_of(report: str) -> dict[str, str]:
    """The plots of a page of `render_report`, as `data:` URIs by their titles."""
    return dict(_PLOT.findall(report))


def _gate(result: GateResult) -> dict[str, Any]:
    tone, mark = _MARKS[result.status]
    return {"name": result.name, "status": f"{mark} {result.status}", "tone": tone, "words": words(result)}


def _figures(manifest: Manifest, evidence: Evidence) -> list[_Figure]:
    tables = manifest.tables
    latency = tables.get("latency", ())
    return [
        _Figure(
            "Sizes",
            "ONNX files and engines, FP16 against FP8.",
            plots.sizes_plot(tables.get("sizes", ())),
            "No file sizes were recorded.",
        ),
        _Figure(
            "Agreement with FP32",
            "Cosine of each evaluation sample's embedding with the one of the FP32 model. Each step up is ten times "
            "less error.",
            plots.cosine_plot(evidence.cosines),
            "No per-sample cosines were kept: accuracy was not measured in this run.",
        ),
        _Figure(
            "Latency",
            _latency_caption(latency),
            plots.latency_plot(evidence.latencies_ms, latency),
            "No engine was timed in this run.",
        ),
        _Figure(
            "Calibration",
            "How fast the amax of the quantizers settles. A flat end means enough samples.",
            plots.convergence_plot(evidence.convergence),
            "No calibration history was kept: the release was calibrated elsewhere, or not at all.",
        ),
        *_sufficiency(tables.get("sufficiency", ())),
        _Figure(
            "Steps",
            "What each step of the run took. A step replayed from the cache shows what it took when it ran.",
            plots.stages_plot(tables.get("stages", ())),
            "No step times were recorded.",
        ),
    ]


def _sufficiency(rows: Sequence[Row]) -> list[_Figure]:
    """The figure on sufficient calibration; empty if the run did not examine it."""
    if not rows:
        return []
    caption = " ".join(["Whether more calibration samples would help, by samples held out.", *sentences(rows)])
    return [_Figure("Sufficiency", caption, plots.sufficiency_plot(rows), "")]


def _latency_caption(latency: Sequence[Row]) -> str:
    caption = "Each box spans half of the calls, its whiskers 5 % to 95 %."
    if any(row["status"] == EMULATED for row in latency):
        caption += " Hatched boxes are emulated: the hardware lacks that precision, so they do not tell its speed."
    return caption


def _maps(manifest: Manifest) -> list[tuple[str, Markup]]:
    from markupsafe import Markup

    rows = [row for row in manifest.tables.get("coverage", ()) if row["precision"] == "fp8"]
    encoders = dict.fromkeys(str(row["encoder"]) for row in rows)
    # Markup: an SVG built by ElementTree, which escaped every name in it.
    return [(name, Markup(precision_map_svg([row for row in rows if row["encoder"] == name]))) for name in encoders]


# --- tables ------------------------------------------------------------------------------------------------


def _headline(manifest: Manifest) -> dict[str, Any]:
    """The headline table, transposed: a column per encoder and a line per figure, as there are more figures."""
    rows = headline(manifest.tables)
    lines = []
    for name in rows[0] if rows else ():
        cells = [_headline_text(name, row[name]) for row in rows]
        if name != "encoder" and any(cell != show.NONE for cell in cells):
            lines.append((_headline_label(name), cells))
    return {"encoders": [row["encoder"] for row in rows], "lines": lines}


def _headline_label(name: str) -> str:
    fixed = {
        "fp16_onnx_mb": "ONNX FP16",
        "fp8_onnx_mb": "ONNX FP8",
        "ratio": "FP8 as a share of FP16",
        "linears_fp8": "Linear layers in FP8",
        "bmms_fp8": "Attention products in FP8",
        "cosine_mean": "Cosine with FP32, mean",
        "cosine_min": "Cosine with FP32, worst sample",
        "rank_agreement": "Rank agreement with FP32",
    }
    if name in fixed:
        return fixed[name]
    if name.startswith("top1_"):
        return f"Zero-shot top-1, {name.removeprefix('top1_').upper()}"
    target, precision, _ = name.rsplit("_", 2)
    return f"Engine {target} {precision.upper()}"


def _headline_text(name: str, value: Cell) -> str:
    if not isinstance(value, float):
        return show.quantity(value)
    if name.endswith("_mb"):
        return show.megabytes(value * 1e6)
    return show.percent(value) if name == "ratio" else show.metric(name, value)


def _table(schema: Table, rows: Sequence[Row]) -> dict[str, Any]:
    """A table to show: columns without any value are listed below it, and a speed-up's interval is in its cell."""
    columns = [column for column in schema.columns if column.name not in _FOLDED]
    empty = [column for column in columns if rows and all(row[column.name] is None for row in rows)]
    shown = [column for column in columns if column not in empty]
    return {
        "name": schema.name,
        "about": schema.about,
        "columns": [(column, *_header(column)) for column in shown],
        "rows": [[_cell(column, row) for column in shown] for row in rows],
        "empty": [_header(column)[0] for column in empty],
    }


def _header(column: Column) -> tuple[str, str]:
    """A column's name in words, and its unit unless the cells show it."""
    if column.unit not in _UNITS_IN_HEADER:
        return column.name.replace("bytes", "size").replace("_", " "), ""
    return column.name.removesuffix(f"_{column.unit.lower()}").replace("_", " "), column.unit


def _cell(column: Column, row: Row) -> _Cell:
    value = row[column.name]
    if column.name == "status":
        return _Cell(str(value), tone=_TONES.get(str(value), "attention"))
    if column.name == "actual" and value != row["expected"]:
        return _Cell(f"{value}, not {row['expected']}", tone="attention")
    if column.name == "speedup":
        ends = show.interval(row["speedup_low"], row["speedup_high"], "{:.2f}")
        return _Cell(show.quantity(value, "ratio") + ends, numeric=True)
    if "metric" in row and column.name in ("value", "low", "high"):
        return _Cell(show.metric(str(row["metric"]), number(row, column.name)), numeric=True)
    if column.name.startswith("cosine"):
        return _Cell(show.metric(column.name, number(row, column.name)), numeric=True)
    return _Cell(show.quantity(value, column.unit), numeric=column.kind != "str")


def _class(row: Row) -> dict[str, str]:
    """One class as the page shows it."""
    rates = {p: number(row, p) for p in ("fp32", "fp16", "fp8")}
    texts = {p: show.NONE if rate is None else show.percent(rate) for p, rate in rates.items()}
    before, after = rates["fp32"], rates["fp8"]
    change = show.NONE if before is None or after is None else show.points(after - before)
    named = {"target": str(row["target"]), "name": str(row["class"]), "samples": f"{row['samples']:,}"}
    return named | texts | {"change": change}


# --- provenance --------------------------------------------------------------------------------------------


def _provenance(provenance: Provenance) -> list[tuple[str, str]]:
    source = provenance.source
    return [
        ("Source", f"{source.name} ({source.kind}, {source.family})"),
        ("Revision", source.revision),
        ("Checkpoint digest", source.digest),
        *((f"Weights {name}", digest) for name, digest in sorted(source.weights.items())),
        ("Recipe", f"{provenance.recipe}, digest {provenance.recipe_digest}"),
        ("Calibration", _data(provenance.calibration)),
        ("Evaluation", _data(provenance.evaluation)),
        ("Device", ", ".join(f"{name} {show.quantity(value)}" for name, value in sorted(provenance.device.items()))),
        ("Code", provenance.code),
        *(("Made from", digest) for digest in provenance.parents),
    ]


def _data(source: DataSource | None) -> str:
    if source is None:
        return "none in this run"
    return f"{source.source}, {source.samples:,} samples, digest {source.digest}"
