"""What people see of a release in Prefect's UI."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tasks.prefect_ui.pages as pages
import tasks.prefect_ui.release_artifacts as ui
from artifacts.manifest import GateResult
from artifacts.release.gates import Gates, judge
from artifacts.store.store import Store, activate
from tests.artifacts.conftest import build_manifest

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`shown(gates)`: the artifacts made for a release that these gates judged, by key."""
    made: dict[str, Any] = {}
    monkeypatch.setattr(pages, "create_table_artifact", lambda table, key, **_: made.update({key: table}))
    monkeypatch.setattr(pages, "create_markdown_artifact", lambda markdown, key, **_: made.update({key: markdown}))

    def show(gates: tuple[GateResult, ...], tables: Any = None) -> dict[str, Any]:
        made.clear()
        draft = SimpleNamespace(
            snapshot=SimpleNamespace(model="clip"), identity=lambda: "a" * 64, tables=tables or {}, gates=gates
        )
        ui.show_tables_task.fn(draft)
        return dict(made)

    return show


def test_gates_are_a_table_and_the_verdict_is_said(shown: Any) -> None:
    tables = build_manifest().tables
    results = judge(Gates(min_cosine_mean=0.999, max_top1_drop=0.005).gates(), tables)
    made = shown(results)
    assert [row["result"] for row in made["clipsmith-gates"]] == [result.status for result in results]
    (undecided,) = [row for row in made["clipsmith-gates"] if row["result"] == "undecided"]
    assert (undecided["gate"], undecided["bound"]) == ("max_top1_drop", "at most 0.5 points")
    page = made["clipsmith-release"]
    assert "**Rejected**: gates 1 failed, 1 undecided, 4 passed." in page
    assert "- min_cosine_mean failed: mean cosine with FP32 (text, onnxruntime) is 0.997240" in page
    assert "image, onnxruntime" not in page  # what is passed needs no line
    accepted = shown(judge(Gates().gates(), tables))["clipsmith-release"]
    assert "Accepted: gates 4 passed." in accepted


def test_without_gates_there_is_no_table_of_them(shown: Any) -> None:
    made = shown(())
    assert made.keys() == {"clipsmith-release"}
    assert "No gates were judged." in made["clipsmith-release"]


def test_tables_have_what_the_release_has_and_nothing_that_breaks_the_page(shown: Any) -> None:
    tables = build_manifest().tables
    made = shown((), tables | {"encoders": ()})
    assert "clipsmith-encoders" not in made  # a table without rows
    rows = made["clipsmith-accuracy"]
    assert len(rows) == len(tables["accuracy"])
    for row, told in zip(tables["accuracy"], rows, strict=True):
        for name, value in told.items():
            assert value == (pytest.approx(row[name], rel=1e-7) if isinstance(value, float) else row[name] or value)
            assert value is not None
            assert value == value  # NaN
    assert all(re.fullmatch("[a-z0-9-]+", key) for key in made)
    # Nothing was measured with a GPU here: columns that no row fills are left out.
    filled = {name for row in tables["latency"] for name, value in row.items() if value is not None}
    assert made["clipsmith-latency"][0].keys() == filled < tables["latency"][0].keys()


def test_a_published_release_is_shown_with_the_way_to_its_files(
    demo_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, str] = {}
    monkeypatch.setattr(pages, "create_markdown_artifact", lambda markdown, key, **_: made.update({key: markdown}))
    with activate(Store.open(demo_store, writable=False)) as opened:
        ui.show_release_task.fn("demo@1")
        report = opened.read(opened.find("demo@1"), "report.html")
    assert made.keys() == {"clipsmith-report", "clipsmith-precision-map"}
    assert f"\n{report}\n" in made["clipsmith-report"]
    assert f"clipsmith export demo@1 FOLDER --store {demo_store}" in made["clipsmith-report"]
    assert made["clipsmith-report"].count("](data:image/svg+xml") == 5
    assert max(map(len, made.values())) < 1_000_000
