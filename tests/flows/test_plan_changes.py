"""What decides a run, now and before: every kind of change is told, each once, and not too many."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from flows.plan_changes import changes

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
        (changed("source", "digest", to="0"), "changed: the checkpoint"),
        (changed("calibration", to=None), "changed: the calibration data"),
        (changed("evaluation", to="0"), "changed: the evaluation data"),
        (changed("recipe", to="0"), "changed: the recipe"),
        (changed("settings", "gates", "min_cosine_mean", to=0.95), "changed: gates.min_cosine_mean 0.9 -> 0.95"),
        (changed("settings", "gates", "max_size_ratio", to=0.6), "changed: gates.max_size_ratio none -> 0.6"),
        (
            changed("settings", "targets", to=["onnxruntime", "trtrtx-sm89"]),
            "changed: targets onnxruntime -> onnxruntime,trtrtx-sm89",
        ),
        (changed("steps", "audit", "version", to=2), "changed: step audit 1 -> 2"),
        (changed("steps", "audit", "result", to="tasks.moved.Made"), "changed: step audit"),
        (changed("steps", "audit", "packages", to={"onnx": "1.23.0"}), "changed: step audit"),
        (changed("steps", "study", to=STEPS["audit"]), "changed: step study is new"),
        (changed("steps", to={"audit": STEPS["audit"]}), "changed: step export is gone"),
        (changed("clipsmith", to="0.2.0"), "changed: clipsmith 0.1.0 -> 0.2.0"),
    ],
)
def test_each_kind(now: dict[str, Any], told: str) -> None:
    assert changes(PLAN, now) == told


def test_a_package_is_named_once_for_all_its_steps() -> None:
    now = deepcopy(PLAN)
    for step in now["steps"].values():
        step["packages"]["torch"] = "2.14.0"
    assert changes(PLAN, now) == "changed: torch 2.13.0 -> 2.14.0"


def test_many_are_counted() -> None:
    now = PLAN | {"settings": PLAN["settings"] | {f"p{n}": n for n in range(9)}}
    assert changes(PLAN, now) == "changed: p0 none -> 0, p1 none -> 1, p2 none -> 2, 6 more"


def test_what_an_older_version_left_out_is_new() -> None:
    assert changes({}, {"steps": {"audit": STEPS["audit"]}}) == "changed: step audit is new"
