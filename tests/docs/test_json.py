"""`docs/json.md` is the code's, and what commands print with `--json` is what it says: no key more, none less."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from artifacts.manifest import GateResult
from artifacts.schema import SCHEMAS, present
from deployments.commands.options import print_json
from deployments.printing import show_search
from tasks.bench.evidence import Evidence, FallBack, Layer
from tasks.bench.layers import LayerRow
from tasks.bench.report import BenchReport, BenchRow, EncoderEvidence, Machine
from tasks.bench.stability import AGAIN, Stability
from tasks.prefect_ui.nightly_summary import Outcome
from tests.artifacts.support import key_pair, rewrite
from tests.conftest import run_clipsmith
from tests.deployments.every_command import COMMANDS
from tests.docs.conftest import CopyDemo
from tests.docs.documents import DOCUMENTS, ERROR_DOCUMENT, FORECAST, MANIFEST, Document
from tests.docs.json_page import PAGE, check, check_document, page, shared
from tests.tasks.inspection.support import messy_folder

Print = Callable[..., dict[str, Any]]
Seen = set[tuple[str, str]]


def problems(document: Document, printed: Any) -> list[str]:
    return list(check_document(document, printed, set()))


def test_the_page_is_the_codes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.docs.json_page`"
    heads = re.findall(r"^#+ (.+)$", page(), re.MULTILINE)
    assert len({head.strip("`").lower() for head in heads}) == len(heads), "two headings have one address"


def test_every_command_that_prints_a_document_is_described() -> None:
    printing = {name for name, command in COMMANDS.items() if any("--json" in each.opts for each in command.params)}
    assert sorted(printing) == sorted(DOCUMENTS)


def sequence(printed: Print, work: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every command that is quick, on the store with two releases."""
    private, public = key_pair(work)
    (work / "gates.yaml").write_text("gates: {max_top1_drop: 0.002, min_cosine_mean: 0.9}\n")
    yield "check", printed("check", "demo", at=None)
    yield "models", printed("models", at=None)
    for name in ("targets", "recipes", "gates"):
        yield name, printed(name, at=None)
    yield "data", printed("data", "digits", "--against", "digits", "--page", work / "sheet.html", at=None)
    yield "data", printed("data", messy_folder(work / "messy"), "--against", work / "messy", at=None, code=2)
    yield "doctor", printed("doctor")
    yield "init", printed("init", work / "mine.yaml", at=None)
    (work / "bad.yaml").write_text("parameters: {calibration: {sample: 3}, targets: [nope]}\n")
    yield "variants check", printed("variants", "check", work / "mine.yaml", work / "bad.yaml", at=None, code=2)
    yield "bench", printed("bench", "demo", "--batch", 1)
    yield "sign", printed("sign", "demo@1", "--key", private)
    yield "check-signature", printed("check-signature", "demo@1", "--key", public)
    yield "promote", printed("promote", "demo@1", "--alias", "production")
    yield "promote", printed("promote", "demo@2", "--alias", "production", "--force", "--why", "to see")
    yield "aliases", printed("aliases", "--history")
    yield "show", printed("show", "demo@1")
    yield "rollback", printed("rollback", "--alias", "production")
    yield "releases", printed("releases")
    yield "show", printed("show", "demo@2")
    yield "diff", printed("diff", "demo@1", "demo@2")
    yield "history", printed("history", "--model", "demo", "--out", work / "history")
    yield "report", printed("report", "demo@1")
    yield "judge", printed("judge", "demo@1", "--gates", work / "gates.yaml", code=3)
    yield "export", printed("export", "demo@1", work / "export")
    yield "export", printed("export", "demo@1", work / "triton", "--layout", "triton")
    yield "pack", printed("pack", "demo@1", work / "demo.tar")
    yield "unpack", printed("unpack", work / "demo.tar", at=work / "other")
    yield "push", printed("push", "demo@1", work / "copy")
    yield "pull", printed("pull", "demo@1", work / "copy", at=work / "third")
    yield "verify", printed("verify")
    report = Path(printed("report", "demo@1")["report"])
    rewrite(report, report.read_bytes() + b" ")
    yield "verify", printed("verify", code=1)
    yield "verify", printed("verify", "--repair")
    yield "gc", printed("gc", "--keep", 1, "--dry-run")


def test_what_commands_print_is_described(
    call: Any, demo_document: dict[str, Any], two_releases: CopyDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = two_releases(tmp_path / "store")

    def printed(*arguments: object, at: Path | None = two, code: int = 0) -> dict[str, Any]:
        store = () if at is None else ("--store", at)
        done, out, err = call(*arguments, *store, "--json")
        assert done == code, err
        return json.loads(out)

    def made(document: dict[str, Any]) -> dict[str, Any]:
        print_json(document)
        return json.loads(capsys.readouterr().out)

    seen: Seen = set()
    assert list(check_document(FORECAST, printed("optimize", "demo", "--dry-run"), seen)) == []
    for refused in (("show", "nope", "--store", two, "--json"), ("show", "--nope", "--json")):
        clipsmith = run_clipsmith(*refused)
        assert list(check_document(ERROR_DOCUMENT, clipsmith.document, seen)) == []
    documents = [("optimize", demo_document), ("bench", made(bench_document())), ("search", made(search_document()))]
    documents += sequence(printed, tmp_path)
    outcome = Outcome(
        variant="demo", result="failed", figures={"top1 fp8": 0.9}, before={"top1 fp8": 0.9}, alarms=("a",)
    )
    documents.append(("nightly", made({"outcomes": [outcome.model_dump(mode="json")]})))
    for command, document in documents:
        assert list(check_document(DOCUMENTS[command], document, seen)) == [], command
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_bytes())
    manifest["provenance"]["evaluation"]["notes"] = ["nothing is odd about the demo's data"]
    assert list(check(MANIFEST, manifest, seen)) == []
    described = {(part.name, key.name) for part in (*shared(), MANIFEST) for key in part.keys}
    tops = (*DOCUMENTS.values(), FORECAST, ERROR_DOCUMENT)
    described |= {(each.part.name, key.name) for each in tops for key in each.part.keys}
    assert sorted(described - seen) == [], "described, and never printed"
    assert {command for command, _ in documents} == DOCUMENTS.keys()


def bench_document() -> dict[str, Any]:
    """The report of a bench as a GPU would give it, with an entry in every list."""
    numbers = dict.fromkeys(("median_ms", "p95_ms", "throughput", "speedup", "speedup_low", "speedup_high"), 1.5)
    row = BenchRow("image", "fp8", "torch-fp8", 1, "measured", **numbers, runs=9, fp8_verdict="passed", steady=True)
    evidence = Evidence(1.0, 2.0, 3.0, 1.0, None, (FallBack("m", "why"),), (Layer("m", 1.0),), (("k", 1, 2.0),))
    report = BenchReport(
        "demo@1",
        Machine("NVIDIA H200", "sm90", "580", "3.12", "2.11", "13.0", 1.0, 2.0, 3.0),
        "clipsmith bench demo",
        [row],
        [EncoderEvidence("image", "fp8", "torch-fp8", 1, evidence)],
        [LayerRow("image", "torch-fp8", 1, "m", 1.0, 2.0, 0.5, None)],
        [
            {
                "encoder": "image",
                "target": "torch-fp8",
                "precision": "fp8",
                "reference": "fp32",
                "metric": "cosine_mean",
            }
            | {"value": 0.99, "low": None, "high": None, "samples": 500}
        ],
        [Stability("image", "torch-fp8", "fp8", AGAIN, 5, 64, 0, 0.0)],
        ["the data is gone"],
    )
    return asdict(report)


def search_document() -> dict[str, Any]:
    """A search's document, of one module; a whole search is the command's own heavy test."""
    from flows.search import Found, SearchSettings
    from tasks.search.plan import Choice, Trial
    from tasks.search.run import Measured
    from tasks.search.sensitivity import Sensitivity
    from tasks.search.units import Unit

    unit = Unit("image", "vision_model.encoder.layers.0.mlp.fc1", "linear", 1000, {})
    gates = (GateResult(name="min_cosine_mean", status="passed", min=0.9, value=0.99),)
    trials = (Trial(Choice(), 1.0, 0.99, gates), Trial(Choice(excluded=frozenset({unit})), 0.5, 1.0, gates))
    measured = Measured((Sensitivity(unit, 0.001, float("inf")),), 2000)
    found = Found(trials[1], trials, trials[:1], measured, SearchSettings())
    return show_search.document(found)


def test_the_tables_of_a_release_are_those_that_are_described(demo_export: Path) -> None:
    tables = json.loads((demo_export / "manifest.json").read_bytes())["tables"]
    assert tables.keys() == set(present(tables))
    for name in tables:
        frame = pd.read_parquet(demo_export / "tables" / f"{name}.parquet")
        assert list(frame.columns) == [column.name for column in SCHEMAS[name].columns]
        assert len(frame) == len(tables[name])


def test_what_is_not_as_described_is_told(demo_document: dict[str, Any]) -> None:
    described = DOCUMENTS["optimize"]
    assert problems(described, demo_document) == []
    changed = json.loads(json.dumps(demo_document))
    del changed["release"]["bytes"]
    changed |= {"more": 1, "new": 1, "schema": 0, "ref": None, "status": "fine"}
    changed["artifacts"][0]["size"] = "7"
    changed["tables"]["stages"][0]["wall_s"] = "long"
    assert sorted(problem.partition(":")[0] for problem in problems(described, changed)) == sorted(
        [".more", ".new", ".schema", ".ref", ".status", ".release.bytes", ".artifacts.0.size", ".tables"]
    )
