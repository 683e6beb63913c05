"""The report as markdown: what the HTML report says, pictures that an XML parser reads, nothing that breaks out."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from artifacts import inert
from artifacts.manifest import Manifest
from artifacts.release.evidence import Evidence
from artifacts.release.gates import Gates, judge
from artifacts.report import markdown
from artifacts.report.markdown import LARGEST_PAGE, precision_page, report_page
from artifacts.report.page import render_report
from artifacts.report.verdict import findings, verdict

MakeManifest = Callable[..., Manifest]
MakeEvidence = Callable[..., Evidence]


def pictures(page: str) -> dict[str, ET.Element]:
    """The SVGs of a page by their titles."""
    found = re.findall(r"!\[([^\]]*)\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", page)
    return {title: ET.fromstring(base64.b64decode(data)) for title, data in found}


def test_the_report_has_the_verdict_the_gates_and_every_plot(
    manifest_of: MakeManifest, evidence_of: MakeEvidence
) -> None:
    manifest = manifest_of()
    gates = judge(Gates(min_cosine_mean=0.999).gates(), manifest.tables)
    manifest = manifest.model_copy(update={"gates": gates})
    page = report_page(manifest, render_report(manifest, evidence_of()))
    assert page.startswith(f"# {manifest.ref}\n")
    assert inert.markdown(verdict(findings(manifest.tables, gates))) in page
    assert "**Rejected.**" in page
    assert page.count("\n| min_cosine_mean |") == 2
    assert pictures(page).keys() == {"Sizes", "Agreement with FP32", "Latency", "Calibration", "Steps"}
    assert all(picture.tag == "{http://www.w3.org/2000/svg}svg" for picture in pictures(page).values())
    assert len(page) < LARGEST_PAGE
    assert not re.search(r"\]\((?!data:image/svg)", page), "something is loaded from elsewhere"


def test_what_was_not_measured_has_no_picture(manifest_of: MakeManifest) -> None:
    manifest = manifest_of(tables={"latency": []})
    page = report_page(manifest, render_report(manifest, Evidence()))
    assert pictures(page).keys() == {"Sizes", "Steps"}


def test_the_precision_map_has_every_module(manifest_of: MakeManifest) -> None:
    manifest = manifest_of(layers=5)
    maps = pictures(precision_page(manifest))
    assert maps.keys() == {"image encoder", "text encoder"}
    for encoder, svg in maps.items():
        rows = [row for row in manifest.tables["coverage"] if f"{row['encoder']} encoder" == encoder]
        titles = {title.text or "" for title in svg.iter("{http://www.w3.org/2000/svg}title")}
        assert {f"{row['module']} ({row['kind']})" for row in rows} == {text.splitlines()[0] for text in titles}


def test_no_fp8_graph_is_said(manifest_of: MakeManifest) -> None:
    page = precision_page(manifest_of(tables={"coverage": []}))
    assert "No FP8 graph was audited." in page
    assert pictures(page) == {}


def test_names_cannot_break_out(manifest_of: MakeManifest) -> None:
    manifest = manifest_of(source="<img src=x>|[a](http://b)`*\n# c")
    page = report_page(manifest, render_report(manifest, Evidence()))
    assert "<img" not in page
    assert "\n# c" not in page
    assert r"&lt;img src=x&gt;\|\[a\](http\://b)\`\*" in page


def test_a_page_stays_small(
    manifest_of: MakeManifest, evidence_of: MakeEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of()
    report = render_report(manifest, evidence_of())
    whole = report_page(manifest, report)
    monkeypatch.setattr(markdown, "LARGEST_PAGE", len(whole) - 100)
    page = report_page(manifest, report)
    assert len(page) < len(whole)
    assert "Too large for this page" in page
    assert pictures(page).keys() < pictures(whole).keys()
    assert len(precision_page(manifest_of(layers=48))) < LARGEST_PAGE  # as deep as ViT-bigG/14
