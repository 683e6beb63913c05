"""What is said of a recipe that asks builders what they make of attention."""

from __future__ import annotations

from typing import Any

from artifacts.report.attention import sentences
from artifacts.report.verdict import findings
from tests.artifacts.conftest import make_row


def row(target: str, fused: str | None, precision: str, **cells: Any) -> dict[str, Any]:
    about: dict[str, Any] = {"encoder": "text", "target": target, "fused": fused, "precision": precision}
    return make_row("attention", **about | cells)


def test_every_target_is_told_of() -> None:
    said = {"tokens": 24, "builder": "b 1"}
    rows = [row("x", "yes", "fp16", **said), row("y", "no", "fp16", **said), row("z", None, "fp16")]
    told = "attention in FP16, as 24 tokens in FP8 make one kernel for x (b 1), several kernels for y (b 1)"
    assert sentences(rows) == [f"text: {told}; z cannot tell"]
    assert sentences(rows[:1]) == ["text: attention in FP16, as 24 tokens in FP8 make one kernel for x (b 1)"]
    found = next(each for each in findings({"attention": rows}) if "builders" in each.title)
    assert found.clause == "the recipe leaves attention in: text FP16" and found.detail.endswith("z cannot tell.")


def test_nobody_could_tell() -> None:
    rows = [row("onnx", None, "fp8")]
    assert sentences(rows) == ["text: attention in FP8, as no target tells what its builder would make of it (onnx)"]
    found = next(each for each in findings({"attention": rows}) if "builders" in each.title)
    assert found.clause == "the recipe leaves attention in: text FP8 (no builder could be asked)"


def test_a_recipe_that_does_not_ask_is_pointed_to_one_that_does() -> None:
    cells: dict[str, Any] = {"encoder": "text", "target": "x", "precision": "fp8", "attention": 1, "attention_fused": 0}
    engines = [make_row("engines", **cells, fused_share=0.0, apart="a.0")]
    details = [[each.detail for each in findings(tables)] for tables in ({"engines": engines},)]
    assert any("Recipe fp8-auto keeps" in detail for detail in details[0])
    asked = findings({"engines": engines, "attention": [row("x", "no", "fp16", tokens=24, builder="b 1")]})
    assert not any("fp8-auto" in each.detail for each in asked)
