"""What people see of a release in Prefect's UI."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import tasks.show_in_ui as ui
from artifacts.gates import Gates, judge
from artifacts.manifest import GateResult
from tests.artifacts.conftest import build_manifest

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`shown(gates)`: the artifacts made for a release that these gates judged, by key."""
    made: dict[str, Any] = {}
    monkeypatch.setattr(ui, "create_table_artifact", lambda table, key, **_: made.update({key: table}))
    monkeypatch.setattr(ui, "create_markdown_artifact", lambda markdown, key: made.update({key: markdown}))

    def show(gates: tuple[GateResult, ...]) -> dict[str, Any]:
        made.clear()
        draft = SimpleNamespace(
            snapshot=SimpleNamespace(model="clip"), identity=lambda: "a" * 64, tables={}, gates=gates
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
    assert "**Rejected**: gates 1 failed, 1 undecided, 3 passed." in page
    assert "- min_cosine_mean failed: mean cosine with FP32 (text, onnxruntime) is 0.997240" in page
    assert "image, onnxruntime" not in page  # what is passed needs no line
    accepted = shown(judge(Gates().gates(), tables))["clipsmith-release"]
    assert "Accepted: gates 4 passed." in accepted


def test_without_gates_there_is_no_table_of_them(shown: Any) -> None:
    made = shown(())
    assert made.keys() == {"clipsmith-release"}
    assert "No gates were judged." in made["clipsmith-release"]
