"""What plots are given, they show, and nothing else."""

from __future__ import annotations

from artifacts.report import plots
from artifacts.report.canvas import shown
from tests.artifacts.conftest import build_manifest


def test_every_text_that_a_plot_is_given_can_be_seen() -> None:
    given: list[object] = []

    @shown
    def plot(rows: list[dict[str, object]], more: tuple[object, ...]) -> str | None:
        given.extend((rows, more))
        return None

    plot([{"a\0b": "x\x1b[31m", "n": 0.5}], ("\ud800", None, 3))
    assert given == [[{"a\\x00b": "x\\x1b[31m", "n": 0.5}], ["\\ud800", None, 3]]


def test_another_content_is_another_picture() -> None:
    tables = build_manifest().tables
    first = plots.stages_plot(tables["stages"])
    slower = [row | {"wall_s": 2 * float(row["wall_s"] or 0)} for row in tables["stages"]]
    assert first is not None
    assert plots.stages_plot(slower) != first
    assert plots.stages_plot(tables["stages"]) == first
    assert plots.stages_plot([]) is None
