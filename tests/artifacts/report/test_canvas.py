"""A plot is drawn once for one content."""

from __future__ import annotations

from artifacts.report import plots
from artifacts.report.canvas import drawn_once
from tests.artifacts.conftest import build_manifest


def test_the_same_content_is_drawn_once() -> None:
    calls = []

    @drawn_once
    def plot(rows: list[dict[str, object]], more: dict[str, list[float]]) -> str | None:
        calls.append((rows, more))
        return f"{rows} {more}"

    first = plot([{"a": 1, "b": None}], {"x": [0.5], "y": []})
    assert plot([{"b": None, "a": 1}], {"x": [0.5], "y": []}) == first  # the order of columns shows nowhere
    assert len(calls) == 1
    plot([{"a": 1, "b": None}], {"y": [], "x": [0.5]})  # the order of curves does
    plot([{"a": 1, "b": 2}], {"x": [0.5], "y": []})
    plot([{"a": 1.5, "b": None}], {"x": [0.5], "y": []})
    assert len(calls) == 4
    assert calls[0] == ([{"a": 1, "b": None}], {"x": [0.5], "y": []})


def test_another_content_is_another_picture() -> None:
    tables = build_manifest().tables
    first = plots.stages_plot(tables["stages"])
    slower = [row | {"wall_s": 2 * float(row["wall_s"] or 0)} for row in tables["stages"]]
    assert first is not None
    assert plots.stages_plot(slower) != first
    assert plots.stages_plot(tables["stages"]) == first
    assert plots.stages_plot([]) is None
