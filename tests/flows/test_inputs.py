"""The digest of what decides a release: which parameters are part of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tasks
from artifacts.store.store import Store
from flows.inputs import pin_arguments, plan, plan_content, recipe_of
from flows.parameters import OptimizeParameters
from tasks.data.pinned import pin_both
from tasks.pipeline.checkpoint import resolve


def plan_of(opened: Store, **changes: Any) -> str:
    parameters = OptimizeParameters.model_validate({"calibration": {"samples": 16}, **changes})
    recipe = recipe_of(parameters)
    snapshot = resolve(parameters.model, parameters.revision, opened)
    return plan(parameters, recipe, snapshot, pin_both(*pin_arguments(parameters, recipe, snapshot, opened)))


@pytest.mark.parametrize(
    ("changes", "another"),
    [
        ({}, False),
        ({"step_minutes": 30}, False),
        ({"store": "elsewhere"}, False),
        ({"encoders": ["image"]}, True),
        ({"calibration": {"samples": 24}}, True),
        ({"calibration": {"samples": 16, "columns": "label=x"}}, False),
        ({"latency": {"rounds": 6}}, True),
        ({"gates": {"min_cosine_mean": 0.5}}, True),
        ({"recipe": "fp8-compact"}, True),
    ],
    ids=["nothing", "time limit", "store", "encoders", "calibration", "columns", "latency", "gates", "recipe"],
)
def test_what_is_part_of_the_plan(store: Store, changes: dict[str, Any], another: bool) -> None:
    assert (plan_of(store, **changes) != plan_of(store)) == another


def test_a_model_of_one_size_has_the_plan_that_it_had(store: Store) -> None:
    """Nights that were there before this parameter make nothing again for it."""
    parameters = OptimizeParameters.model_validate({"calibration": {"samples": 16}})
    recipe, snapshot = recipe_of(parameters), resolve("demo", None, store)
    data = pin_both(*pin_arguments(parameters, recipe, snapshot, store))
    assert "image_size" not in plan_content(parameters, recipe, snapshot, data)["settings"]
    chosen = snapshot.model_copy(update={"image_size": (48, 32)})
    assert plan_content(parameters, recipe, chosen, data)["settings"]["image_size"] == [48, 32]


def test_every_step_is_part_of_it_whoever_asks() -> None:
    """A process that has imported nothing else knows the same steps, so a search or a night asks for the same plan."""
    folder = Path(tasks.__file__).parent
    files = [file for file in folder.rglob("*.py") if "cached_step(" in file.read_text()]
    modules = {".".join(("tasks", *file.relative_to(folder).with_suffix("").parts)) for file in files}
    assert len(modules) > 10
    command = [sys.executable, "-P", "-c", "import flows.inputs, sys; print(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert modules <= set(loaded)
