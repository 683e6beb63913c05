"""What people see of a release in Prefect's UI."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tasks.prefect_ui.pages as pages
import tasks.prefect_ui.release_artifacts as ui
from artifacts.inert import markdown
from artifacts.manifest import GateResult
from artifacts.release.gates import Gates, judge
from artifacts.report.task_table import HEADS, task_lines
from artifacts.store.store import Store, activate
from tests.artifacts.conftest import build_manifest

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`shown(gates)`: the artifacts made for a release that these gates judged, by key."""
    made: dict[str, Any] = {}
    monkeypatch.setattr(
        pages, "create_table_artifact", lambda table, key, **_: made.update({key: table}) or f"id-{key}"
    )
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
    told = made["clipsmith-accuracy"]
    assert [tuple(row[head] for head in HEADS) for row in told] == [
        tuple(map(markdown, line)) for line in task_lines(tables)
    ]
    assert [*told[0]][5:] == ["FP8 - FP32", "FP8 - FP16", "FP16 - FP32"], "what FP8 changed is seen first"
    rows = made["clipsmith-agreement"]
    kept = [row for row in tables["accuracy"] if str(row["metric"]).startswith(("cosine", "rank", "nonfinite"))]
    assert len(rows) == len(kept) > 0
    for row, told in zip(kept, rows, strict=True):
        assert float(told.pop("value")) == pytest.approx(row["value"], abs=1e-6)
        for name, value in told.items():
            expected = row[name] if isinstance(row[name], float) else markdown(str(row[name]))
            assert value == (pytest.approx(expected, rel=1e-7) if isinstance(value, float) else value)
            assert value is not None
            assert value == value  # NaN
    sizes = made["clipsmith-sizes"]
    assert all(row["size"].endswith(" MB") for row in sizes)
    assert all(row["of FP16"].endswith(" %") for row in sizes if row["of FP16"])
    links = [key for key in made if key != "clipsmith-release"]
    assert re.findall(r"\(/artifacts/artifact/id-(.*?)\)", made["clipsmith-release"]) == links[::-1]
    assert links[::-1][:4] == ["clipsmith-accuracy", "clipsmith-agreement", "clipsmith-sizes", "clipsmith-coverage"]


def test_what_is_not_as_the_recipe_asks_comes_first(shown: Any) -> None:
    (row, *_) = build_manifest().tables["coverage"]
    fell = row | {"expected": "fp8", "actual": "fp16", "module": "fell"}
    rows = shown((), {"coverage": (row | {"expected": "fp8", "actual": "fp8"}, fell)})["clipsmith-coverage"]
    assert [each["actual"] for each in rows] == ["fp16", "fp8"]


def test_the_tables_that_a_page_can_show_have_nothing_that_breaks_it(shown: Any) -> None:
    tables = build_manifest().tables
    made = shown((), tables)
    assert all(re.fullmatch("[a-z0-9-]+", key) for key in made)
    # Nothing was measured with a GPU here: columns that no row fills are left out.
    filled = {name for row in tables["latency"] for name, value in row.items() if value is not None}
    assert filled < tables["latency"][0].keys()
    assert made["clipsmith-latency"][0].keys() == {name.replace("_", " ") for name in filled}


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
