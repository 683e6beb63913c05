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
    told = (
        "attention in FP16, as FP8 attention over 24 tokens becomes one kernel for x (b 1), several kernels for y (b 1)"
    )
    assert sentences(rows) == [f"text: {told}; z cannot tell"]
    assert sentences(rows[:1]) == [
        "text: attention in FP16, as FP8 attention over 24 tokens becomes one kernel for x (b 1)"
    ]
    alike = [row(target, "no", "fp16", **said) for target in ("x", "y")]
    assert sentences(alike)[0].endswith("over 24 tokens becomes several kernels for x and y (b 1)")
    found = next(each for each in findings({"attention": rows}) if "builders" in each.title)
    assert found.clause == "the recipe leaves attention in FP16" and found.detail == f"Text: {told}; z cannot tell."


def test_nobody_could_tell() -> None:
    rows = [row("onnx", None, "fp8")]
    assert sentences(rows) == ["text: attention in FP8, as no target tells what its builder would make of it (onnx)"]
    found = next(each for each in findings({"attention": rows}) if "builders" in each.title)
    assert found.clause == "the recipe leaves attention in FP8 (no builder could tell)"


def test_a_builder_whose_engine_does_not_tell_is_no_reason() -> None:
    rows = [row("x", "unknown", "fp8", tokens=24, builder="b 1"), row("z", None, "fp8")]
    assert sentences(rows) == ["text: attention in FP8, as no target tells what its builder would make of it (x, z)"]
    found = next(each for each in findings({"attention": rows}) if "builders" in each.title)
    assert found.clause == "the recipe leaves attention in FP8 (no builder could tell)"


def test_encoders_that_differ_are_named() -> None:
    cells: dict[str, Any] = {"tokens": 24, "builder": "b 1"}
    rows = [row("x", "no", "fp16", **cells), row("x", "yes", "fp8", encoder="image", **cells)]
    found = next(each for each in findings({"attention": rows}) if "builders" in each.title)
    assert (found.figure, found.clause) == (
        "text FP16, image FP8",
        "the recipe leaves attention in FP16 for text and FP8 for image",
    )
    assert found.detail.count(". Image: ") == 1


def test_a_recipe_without_attention_asks_nobody() -> None:
    assert sentences([row("x", None, "fp16")]) == ["text: attention in FP16, as the recipe quantizes none of it"]


def test_a_recipe_that_does_not_ask_is_pointed_to_one_that_does() -> None:
    cells: dict[str, Any] = {"encoder": "text", "target": "x", "precision": "fp8", "attention": 1, "attention_fused": 0}
    engines = [make_row("engines", **cells, fused_share=0.0, apart="a.0")]
    details = [[each.detail for each in findings(tables)] for tables in ({"engines": engines},)]
    assert any("Recipe fp8-auto keeps" in detail for detail in details[0])
    asked = findings({"engines": engines, "attention": [row("x", "no", "fp16", tokens=24, builder="b 1")]})
    assert not any("fp8-auto" in each.detail for each in asked)
