"""The report: self-contained, inert, the same for the same data, and honest about what was not measured."""

from __future__ import annotations

import base64
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from artifacts.errors import NumericError, TableError
from artifacts.manifest import GateResult, Manifest
from artifacts.number_words import NONE
from artifacts.release.gates import Gates, judge
from artifacts.report import plots
from artifacts.report.markdown import report_page
from artifacts.report.page import Evidence, plots_of, render_report
from artifacts.report.verdict import findings, verdict
from artifacts.schema import SCHEMAS
from tests.artifacts.conftest import make_row
from tests.wording import refusal

MakeManifest = Callable[..., Manifest]
MakeEvidence = Callable[..., Evidence]
VOID = {"meta", "img", "br", "hr", "link", "input"}
LOADS = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Page(HTMLParser):
    """Checks that tags close in order, and keeps what a page shows and loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in LOADS]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def images(page: Page) -> list[str]:
    head = "data:image/svg+xml;base64,"
    assert all(load.startswith(head) for load in page.loads)
    return [base64.b64decode(load.removeprefix(head)).decode() for load in page.loads]


def test_the_page_is_whole_and_loads_nothing(manifest_of: MakeManifest, evidence_of: MakeEvidence) -> None:
    html = render_report(manifest_of(), evidence_of())
    page = Page(html)
    drawn = images(page)
    assert len(drawn) == 5
    for text in (html, *drawn):
        assert set(re.findall(r"https?://[^\"' ]+", text)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
    for image in drawn:
        assert ET.fromstring(image).tag.endswith("svg")
    assert page.tags.count("svg") == 2
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "url(" not in html and "@import" not in html


def test_the_same_data_gives_the_same_page(manifest_of: MakeManifest, evidence_of: MakeEvidence) -> None:
    assert render_report(manifest_of(), evidence_of()) == render_report(manifest_of(), evidence_of())


def test_it_shows_all_tables_and_the_provenance(manifest_of: MakeManifest, evidence_of: MakeEvidence) -> None:
    manifest = manifest_of()
    page = Page(render_report(manifest, evidence_of()))
    for schema in SCHEMAS.values():
        assert (schema.about in page.text) is not schema.optional
    source = manifest.provenance.source
    for text in (
        manifest.ref,
        source.revision,
        source.digest,
        manifest.identity,
        "nvidia-modelopt 0.47.0",
        "512 samples",
    ):
        assert text in page.text
    assert page.tags.count("details") == 2


def test_nothing_from_a_release_becomes_markup(manifest_of: MakeManifest, evidence_of: MakeEvidence) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>$\\frac$"
    plain = manifest_of()
    tables = {
        name: [
            {
                key: evil if key in ("note", "device", "input", "module", "node", "step", "target") else value
                for key, value in row.items()
            }
            for row in rows
        ]
        for name, rows in plain.tables.items()
    }
    made = manifest_of(source=evil, tables=tables)
    provenance = made.provenance.model_copy(update={"parameters": {evil: evil}, "packages": {evil: evil}, "code": evil})
    html = render_report(made.model_copy(update={"provenance": provenance, "created": evil}), evidence_of())
    page = Page(html)
    assert "script" not in page.tags
    assert page.tags.count("img") == 5
    assert evil in page.text
    assert all("<script" not in image for image in images(page))


@pytest.mark.filterwarnings("error")
def test_a_release_without_measurements_says_so(manifest_of: MakeManifest) -> None:
    empty = manifest_of(tables={name: [] for name in SCHEMAS})
    page = Page(render_report(empty, Evidence()))
    assert page.loads == []
    for text in ("No engine was timed", "No per-sample cosines", "No calibration history", "No FP8 graph was audited"):
        assert text in page.text
    assert page.text.count("No rows.") == 6


def test_tables_that_are_not_there_count_as_empty(manifest_of: MakeManifest) -> None:
    assert Page(render_report(manifest_of().model_copy(update={"tables": {}}), Evidence())).text.count("No rows.") == 6


def test_emulated_times_are_never_a_speed(manifest_of: MakeManifest, evidence_of: MakeEvidence) -> None:
    page = Page(render_report(manifest_of(), evidence_of()))
    assert "FP8 speed was not measured, only emulated" in page.text
    assert "as fast as" not in page.text
    assert "built, not run" in page.text
    latency = next(image for image in images(page) if "ms per call" in image)
    assert "FP8, onnxruntime (emulated)" in latency


def test_a_measured_speedup_comes_with_its_interval(manifest_of: MakeManifest, evidence_of: MakeEvidence) -> None:
    page = Page(render_report(manifest_of(measured=True), evidence_of(measured=True)))
    assert "FP8 runs 1.61x as fast as FP16" in page.text
    assert "95 % interval 1.58 to 1.64" in page.text
    assert not any("emulated" in image for image in images(page))
    assert "emulated" not in page.text.replace("Emulated rows", "").replace("measured; emulated", "")


def test_the_verdict_is_built_from_the_data(manifest_of: MakeManifest) -> None:
    assert verdict(findings(manifest_of(24).tables)).replace("\N{MINUS SIGN}", "-") == (
        "FP8 ONNX files are 49 % smaller than FP16; zero-shot top-1 changes by -0.2 points against FP16 "
        "(95 % interval -0.6 to +0.2); 290/290 linear layers and 96/96 attention products are FP8; "
        "all 8 engines are built; FP8 speed was not measured, only emulated."
    )


def test_the_verdict_names_what_is_wrong(manifest_of: MakeManifest) -> None:
    found = findings(manifest_of(wrong=True, unavailable="needs tensorrt-rtx").tables)
    assert [finding.title for finding in found if finding.level == "attention"] == ["FP8 coverage", "Engines built"]
    assert "1 module is not what the recipe asks for" in verdict(found)
    assert "8 of 12 engines are built" in verdict(found)


def test_attention_that_fell_apart_is_told() -> None:
    def told(*cells: dict[str, Any]) -> list[tuple[str, str]]:
        about = {"encoder": "text", "target": "trtrtx-sm89", "precision": "fp8", "attention": 2}
        found = findings({"engines": [make_row("engines", **about, **row) for row in cells]})
        return [(finding.level, f"{finding.figure} {finding.detail}") for finding in found if "kernel" in finding.title]

    blocks = "Attention blocks of FP8 engines that are one kernel: text trtrtx-sm89"
    assert told({"attention_fused": 2, "fused_share": 1.0}) == [("good", f"2/2 {blocks} 2/2.")]
    ((level, text),) = told({"attention_fused": 0, "fused_share": 0.0, "apart": "a.0 and 1 more"})
    assert level == "attention" and text.startswith(f"0/2 {blocks} 0/2. The others fell apart")
    ((level, text),) = told({"attention_fused": 1})
    assert level == "attention" and text.endswith("1/2. Some engines do not tell of all blocks.")
    assert told() == []


def test_nan_in_the_outputs_is_the_first_thing_said_about_accuracy(manifest_of: MakeManifest) -> None:
    rows = [row | {"value": 3.0} if row["metric"] == "nonfinite" else row for row in manifest_of().tables["accuracy"]]
    rows += [row | {"reference": "fp16"} for row in rows]
    accuracy = findings(manifest_of(tables={"accuracy": rows}).tables)[1]
    assert (accuracy.figure, accuracy.level) == ("NaN or Inf", "attention")
    assert "hold 6 NaN" in accuracy.clause


def test_without_labels_retrieval_speaks(manifest_of: MakeManifest) -> None:
    rows = [
        row | {"metric": "recall@1_image_to_text_difference"} if row["metric"] == "top1_difference" else row
        for row in manifest_of().tables["accuracy"]
    ]
    accuracy = findings(manifest_of(tables={"accuracy": rows}).tables)[1]
    assert accuracy.title == "Image-to-text recall@1, FP8 against FP16"


def test_without_a_task_the_embeddings_speak(manifest_of: MakeManifest) -> None:
    rows = [row for row in manifest_of().tables["accuracy"] if row["encoder"] != "both"]
    accuracy = findings(manifest_of(tables={"accuracy": rows}).tables)[1]
    assert "image mean cosine 0.999210, text mean cosine 0.997240" in accuracy.clause


def test_rows_that_break_a_schema_are_not_shown(manifest_of: MakeManifest) -> None:
    with pytest.raises(TableError, match="table stages"):
        render_report(manifest_of(tables={"stages": [{"step": "x"}]}), Evidence())


def test_evidence_refuses_nan_and_unreadable_keys() -> None:
    with refusal(NumericError, "cosines, image fp8 onnxruntime"):
        Evidence(cosines={"image fp8 onnxruntime": [0.99, math.nan]})
    for latencies in ({"image fp8": [1.0]}, {"image fp8 onnxruntime": [1.0]}, {"image fp8 onnxruntime batch x": [1.0]}):
        with refusal(TableError):
            Evidence(latencies_ms=latencies)


@pytest.mark.parametrize("cosine", [1.0000001, 0.2, -0.5])
def test_odd_cosines_are_drawn(manifest_of: MakeManifest, cosine: float) -> None:
    page = Page(render_report(manifest_of(), Evidence(cosines={"image fp8 onnxruntime": [cosine]})))
    assert any("cosine with FP32" in image for image in images(page))


def test_a_quantizer_that_saw_only_zeros_does_not_spoil_the_plot(manifest_of: MakeManifest) -> None:
    rows = [{"quantizer": name, "samples": n, "amax": amax} for name, amax in (("a", 0.0), ("b", 2.0)) for n in (8, 16)]
    page = Page(render_report(manifest_of(), Evidence(convergence=rows)))
    assert any("calibration samples seen by 1 of 2 quantizers" in image for image in images(page))


def judged(manifest: Manifest, **bounds: float) -> Manifest:
    return manifest.model_copy(update={"gates": judge(Gates(**bounds).gates(), manifest.tables)})


def test_a_rejected_release_says_so_first(manifest_of: MakeManifest, evidence_of: MakeEvidence) -> None:
    bounds = {"min_cosine_mean": 0.999, "max_top1_drop": 0.005, "max_recall_drop": 0.1}
    made = judged(manifest_of(), **bounds)
    text = Page(render_report(made, evidence_of())).text
    banner = text[text.index("Rejected.") : text.index("Rejected by min_cosine_mean, max_top1_drop, max_recall_drop;")]
    assert "min_cosine_mean failed: mean cosine with FP32 (text, onnxruntime) is 0.997240" in banner
    assert "max_recall_drop not measured" in banner
    assert "max_top1_drop undecided" in banner and "passed" not in banner
    table = text[text.index("What the release was asked for.") : text.index("Headline")]
    marks = {"passed": "\N{CHECK MARK}", "failed": "\N{MULTIPLICATION SIGN}", "undecided": "?", "not measured": NONE}
    for status, mark in marks.items():
        assert table.count(f"{mark} {status}") == [gate.status for gate in made.gates].count(status) > 0
    assert "at most 0.5 points" in table


def test_an_accepted_release_has_no_banner(manifest_of: MakeManifest, evidence_of: MakeEvidence) -> None:
    text = Page(render_report(judged(manifest_of()), evidence_of())).text
    assert "Rejected" not in text
    assert "All gates are passed;" in text
    assert "No gate was judged." in Page(render_report(manifest_of(), evidence_of())).text


def test_findings_on_gates(manifest_of: MakeManifest) -> None:
    cases = {
        ("rejected", "bad"): {"min_cosine_mean": 0.999, "max_top1_drop": 0.005},
        ("undecided", "bad"): {"max_top1_drop": 0.005},
        ("accepted", "good"): {},
    }
    for expected, bounds in cases.items():
        made = judged(manifest_of(), **bounds)
        first = findings(made.tables, made.gates)[0]
        assert (first.title, first.figure, first.level) == ("Gates", *expected)
    assert [finding.title for finding in findings(made.tables)].count("Gates") == 0


def test_accuracy_at_chance_is_named(manifest_of: MakeManifest) -> None:
    made = manifest_of()
    assert "Accuracy at chance" not in [finding.title for finding in findings(made.tables)]
    rows = [
        row | {"value": 0.004, "low": -0.015, "high": 0.023} if row["metric"] == "top1_over_chance" else row
        for row in made.tables["accuracy"]
    ]
    (found,) = [f for f in findings(made.tables | {"accuracy": rows}) if f.title == "Accuracy at chance"]
    assert (found.figure, found.level) == ("at chance", "bad")
    rows = [r | {"metric": "recall@1_image_to_text_over_chance"} for r in rows if r["metric"] == "top1_over_chance"]
    (found,) = [f for f in findings(made.tables | {"accuracy": rows}) if f.title == "Accuracy at chance"]
    assert (found.figure, found.level) == ("at chance", "bad")
    assert "shuffled captions" in found.detail


def test_notes_on_the_data_are_told(manifest_of: MakeManifest) -> None:
    made = manifest_of()
    assert "Data" not in [finding.title for finding in findings(made.tables, made.gates, made.provenance.notes)]
    evaluation = made.provenance.evaluation.model_copy(update={"notes": ("3 of 9 pictures are <faint>", "b")})
    made = made.model_copy(update={"provenance": made.provenance.model_copy(update={"evaluation": evaluation})})
    (found,) = [f for f in findings(made.tables, made.gates, made.provenance.notes) if f.title == "Data"]
    assert (found.figure, found.level) == ("2 notes", "attention")
    assert found.detail == "Evaluation data: 3 of 9 pictures are <faint>. Evaluation data: b."
    assert found.detail in Page(render_report(made, Evidence())).text
    assert Manifest.from_bytes(made.to_bytes(), where="here") == made


def test_classes_that_are_alike_are_named(manifest_of: MakeManifest) -> None:
    made = manifest_of()
    assert "Classes alike" not in [finding.title for finding in findings(made.tables)]
    rows = [*made.tables["accuracy"]]
    row = rows[0] | {"metric": "alike_classes", "value": 2.0, "low": None, "high": None, "samples": 10}
    (found,) = [f for f in findings(made.tables | {"accuracy": [*rows, row]}) if f.title == "Classes alike"]
    assert (found.figure, found.level) == ("2 of 10 classes", "attention")
    text = Page(render_report(made, Evidence(alike=[["missile", "missile"], ["<b>", "B"]]))).text
    assert "missile = missile; <b> = B" in text
    assert "one text to the model" not in Page(render_report(made, Evidence())).text


def test_classes_without_samples_are_said_and_not_listed(manifest_of: MakeManifest) -> None:
    row = {"target": "onnxruntime", "class": "cat", "samples": 5, "fp32": 0.5, "fp16": 0.5, "fp8": 0.4}
    empty = [{"target": "onnxruntime", "class": f"class {number}", "samples": 0} for number in range(7)]
    text = Page(render_report(manifest_of(), Evidence(classes=[row, *empty]))).text
    assert "7 classes are prompts without samples: class 0, class 1, class 2, class 3, class 4 and others." in text
    assert "Show 1 classes" in text and "class 6" not in text


def test_the_page_shows_classes_and_the_samples_that_change_most(manifest_of: MakeManifest) -> None:
    classes = [
        {"target": "onnxruntime", "class": "a <b>cat</b>", "samples": 50, "fp32": 0.5, "fp16": None, "fp8": 0.46}
    ]
    changed = [
        {"target": "onnxruntime", "sample": "cats/7.png", "truth": "cat", "fp32": "cat > dog", "fp8": "dog > cat"}
        | {"fp32_margin": 0.0123, "fp8_margin": -0.0045}
    ]
    assert "thumbnail" not in _body(render_report(manifest_of(), Evidence(classes=classes, changed=changed)))
    picture = "data:image/jpeg;base64,/9j/4AAQ"
    changed = [row | {"thumbnail": picture} for row in changed]
    assert f'<img class="thumbnail" src="{picture}" alt="">' in render_report(manifest_of(), Evidence(changed=changed))
    text = Page(render_report(manifest_of(), Evidence(classes=classes, changed=changed))).text
    for shown in ("a <b>cat</b>", "50.0 %", "46.0 %", "4.0 points", "cats/7.png", "cat > dog", "dog > cat", "-0.0045"):
        assert shown in text, shown
    assert "Show 1 classes" in text and "the 1 samples" in text
    assert "that FP8 changes most" not in Page(render_report(manifest_of(), Evidence())).text


@pytest.mark.parametrize(
    "source",
    ["https://a.b/c.jpg", "data:text/html,x", "data:image/svg+xml;base64,AAAA", 'data:image/jpeg;base64,A"><b>', "x"],
)
def test_a_thumbnail_is_a_picture_of_its_own(source: str) -> None:
    with pytest.raises(TableError, match=r"thumbnail.*\n.*cats/7"):
        Evidence(changed=[{"sample": "cats/7.png", "thumbnail": source}])


def _body(page: str) -> str:
    return page.partition("<body")[2]


def test_names_of_gates_do_not_become_markup(manifest_of: MakeManifest) -> None:
    evil = "<b onclick=alert(1)>"
    gate = GateResult(name=evil, status="failed", encoder=evil, target=evil, max=0.5, value=0.75)
    assert evil in Page(render_report(manifest_of().model_copy(update={"gates": (gate,)}), Evidence())).text


def test_a_study_of_the_calibration_is_shown(manifest_of: MakeManifest) -> None:
    comparison = [
        make_row(
            "calibration", encoder="image", method=name, samples=400, held_out=64, cosine_mean=mean, cosine_min=0.9
        )
        | {"chosen": "yes" if name == "mse" else "no"}
        for name, mean in (("max", 0.9912341), ("mse", 0.9956789))
    ]
    curve = [
        make_row("sufficiency", encoder="image", samples=samples, method="mse", cosine_mean=mean)
        | {"amax_change": change, "quantizer": "a.q_bmm_quantizer", "more_helped": helped}
        for samples, mean, change, helped in ((200, 0.99, 0.5, "yes"), (400, 0.9956789, 0.0, None))
    ]
    manifest = manifest_of(tables={"calibration": comparison, "sufficiency": curve})
    html = render_report(manifest, Evidence())
    page = Page(html)
    assert page.tags.count("img") == 3  # beside sizes and steps
    assert not any("mathdefault" in image for image in images(page))
    assert html.count("not yet enough: from 200 to 400 samples") == 2  # the caption, and what the picture is called
    assert "a.q_bmm_quantizer by 50.0 %" in page.text
    for text in ("0.991234", "0.995679", SCHEMAS["calibration"].about, SCHEMAS["sufficiency"].about):
        assert text in page.text
    shown = report_page(manifest, html)
    assert "image: not yet enough: from 200 to 400 samples" in shown and "## Sufficiency" in shown


def test_the_plots_of_a_page_are_those_that_were_drawn(manifest_of: MakeManifest, evidence_of: MakeEvidence) -> None:
    manifest, evidence = manifest_of(), evidence_of()
    found = plots_of(render_report(manifest, evidence))
    assert list(found) == ["Sizes", "Agreement with FP32", "Latency", "Calibration", "Steps"]
    assert found["Sizes"] == plots.sizes_plot(manifest.tables["sizes"])
    assert found["Steps"] == plots.stages_plot(manifest.tables["stages"])
    assert found["Agreement with FP32"] == plots.cosine_plot(evidence.cosines)
