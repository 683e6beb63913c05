"""One release as pages of markdown for Prefect's UI: the report with its plots inside, and the precision map.

The UI loads no pictures, so they are `data:` URIs. Its artifacts are rows of a database, so pages are kept small.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence

from artifacts.inert import markdown
from artifacts.manifest import Manifest
from artifacts.report.canvas import as_uri
from artifacts.report.gate_words import sentence, words
from artifacts.report.page import plots_of
from artifacts.report.precision_map import precision_map_svg
from artifacts.report.sufficiency import sentences
from artifacts.report.verdict import findings, verdict

LARGEST_PAGE = 900_000
"""Largest size of a page in bytes; a plot that does not fit is only named."""
_MARGIN = 14


def report_page(manifest: Manifest, report: str) -> str:
    """The verdict with its findings, the gates, and the plots taken from `report`, the HTML of the release's report.

    Raises:
        TableError, NumericError: a table of the manifest does not keep to its schema.
    """
    source, recipe = manifest.provenance.source, manifest.provenance.recipe
    found = findings(manifest.tables, manifest.gates, manifest.provenance.notes)
    rejections = [f"- {markdown(sentence(result))}" for result in manifest.gates if result.rejects]
    parts = [
        f"# {markdown(manifest.ref)}",
        markdown(f"{source.name} at {source.revision[:12]}, recipe {recipe}, published {manifest.created}"),
        *(
            ["**Rejected.** An alias can point to this release by force only.", "\n".join(rejections)]
            * bool(rejections)
        ),
        f"**{markdown(verdict(found))}**",
        "\n".join(f"- **{markdown(f.title)}**: {markdown(f.figure)}. {markdown(f.detail)}" for f in found),
        *_gates(manifest),
        *_calibration(manifest),
    ]
    return _filled(parts, plots_of(report).items())


def precision_page(manifest: Manifest) -> str:
    """The precision of every module of the FP8 graphs: a map per encoder."""
    rows = [row for row in manifest.tables.get("coverage", ()) if row["precision"] == "fp8"]
    encoders = dict.fromkeys(str(row["encoder"]) for row in rows)
    parts = [f"# Precision map of {markdown(manifest.ref)}", "Read back from the exported FP8 graphs."]
    if not rows:
        parts.append("No FP8 graph was audited.")
    maps = (
        (f"{name} encoder", _white(precision_map_svg([r for r in rows if r["encoder"] == name]))) for name in encoders
    )
    return _filled(parts, maps)


def _gates(manifest: Manifest) -> list[str]:
    if not manifest.gates:
        return []
    rows = [
        tuple(map(markdown, (result.name, said.where, result.status, said.measured, said.interval, said.bound)))
        for result in manifest.gates
        for said in (words(result),)
    ]
    return ["## Gates", _table(("gate", "of", "result", "measured", "95 % interval", "asked for"), rows)]


def _calibration(manifest: Manifest) -> list[str]:
    """Whether the samples sufficed, if the run examined it; the comparison of methods is another artifact in the UI."""
    found = sentences(manifest.tables.get("sufficiency", ()))
    return ["## Calibration samples", "\n".join(f"- {markdown(sentence)}" for sentence in found)] if found else []


def _filled(parts: Sequence[str], figures: Iterable[tuple[str, str]]) -> str:
    """The parts, then each picture under its title as long as there is room."""
    page = "\n\n".join(parts)
    for title, source in figures:
        figure = f"\n\n## {markdown(title)}\n\n![{markdown(title)}]({source})"
        if len(page) + len(figure) > LARGEST_PAGE:
            figure = f"\n\n## {markdown(title)}\n\nToo large for this page: see the report's file."
        page += figure
    return page + "\n"


def _white(svg: str) -> str:
    """The SVG as a `data:` URI, with a white background and margins, as the UI may be dark."""
    root = ET.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    width, height = width + 2 * _MARGIN, height + 2 * _MARGIN
    root.set("viewBox", f"{-_MARGIN} {-_MARGIN} {width:g} {height:g}")
    root.set("width", f"{width:g}")
    root.set("height", f"{height:g}")
    root.set("style", "background:#ffffff")
    return as_uri(ET.tostring(root, encoding="unicode"))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
