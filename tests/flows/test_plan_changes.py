"""What decides a run, now and before: every kind of change is told, each once, and not too many."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from flows.plan_changes import changes, read_content

STEPS = {
    name: {"version": 1, "result": f"tasks.{name}.Made", "packages": {"torch": "2.13.0", "onnx": "1.23.0"}}
    for name in ("export", "audit")
}
PLAN: dict[str, Any] = {
    "source": {"model": "a", "digest": "1"},
    "calibration": "2",
    "evaluation": "3",
    "recipe": "4",
    "settings": {"targets": ["onnxruntime"], "gates": {"min_cosine_mean": 0.9, "max_size_ratio": None}},
    "steps": STEPS,
    "clipsmith": "0.1.0",
}


def changed(*place: str, to: Any) -> dict[str, Any]:
    plan = deepcopy(PLAN)
    inner = plan
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = to
    return plan


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (PLAN, ""),
        (changed("source", "digest", to="0"), "the checkpoint changed"),
        (changed("calibration", to=None), "the calibration data changed"),
        (changed("evaluation", to="0"), "the evaluation data changed"),
        (changed("recipe", to="0"), "the recipe changed"),
        (changed("settings", "gates", "min_cosine_mean", to=0.95), "gates.min_cosine_mean 0.9 -> 0.95"),
        (changed("settings", "gates", "max_size_ratio", to=0.6), "gates.max_size_ratio none -> 0.6"),
        (
            changed("settings", "targets", to=["onnxruntime", "trtrtx-sm89"]),
            "targets onnxruntime -> onnxruntime,trtrtx-sm89",
        ),
        (changed("steps", "audit", "version", to=2), "step audit 1 -> 2"),
        (changed("steps", "audit", "result", to="tasks.moved.Made"), "step audit changed"),
        (changed("steps", "audit", "packages", to={"onnx": "1.23.0"}), "step audit changed"),
        (changed("steps", "study", to=STEPS["audit"]), "step study is new"),
        (changed("steps", to={"audit": STEPS["audit"]}), "step export is gone"),
        (changed("clipsmith", to="0.2.0"), "clipsmith 0.1.0 -> 0.2.0"),
    ],
)
def test_each_kind(now: dict[str, Any], told: str) -> None:
    assert changes(PLAN, now) == told


def test_a_package_is_named_once_for_all_its_steps() -> None:
    now = deepcopy(PLAN)
    for step in now["steps"].values():
        step["packages"]["torch"] = "2.14.0"
    assert changes(PLAN, now) == "torch 2.13.0 -> 2.14.0"


def test_many_are_counted() -> None:
    now = PLAN | {"settings": PLAN["settings"] | {f"p{n}": n for n in range(9)}}
    assert changes(PLAN, now) == "p0 is new, p1 is new, p2 is new, 6 more"


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({}, {"new": None}, "new is new"),
        ({"old": 1}, {}, "old is gone"),
        ({"flag": 1}, {"flag": True}, "flag 1 -> True"),
        ({"section": {"a": 1}}, {"section": {"a": 1, "b": {}}}, "section.b is new"),
    ],
)
def test_a_parameter_that_came_or_went(before: dict[str, Any], now: dict[str, Any], told: str) -> None:
    assert changes(PLAN | {"settings": before}, PLAN | {"settings": now}) == told


def test_an_upgrade_is_told_first() -> None:
    now = PLAN | {"clipsmith": "0.2.0", "settings": {f"p{n}": n for n in range(9)}}
    assert changes(PLAN, now).startswith("clipsmith 0.1.0 -> 0.2.0, ")


def test_what_was_recorded_is_read_back_and_another_form_is_not() -> None:
    assert read_content(json.loads(json.dumps(PLAN))) == PLAN
    for steps in ({"a": [1, {}]}, {"a": {"version": 1, "packages": {}}}, [1], None):
        assert read_content(PLAN | {"steps": steps}) is None
    assert read_content([PLAN]) is None
