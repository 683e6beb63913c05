"""Modules with extreme outliers, planted at random, are what a search excludes: all of them and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.search.choice import Choice
from tasks.search.evaluation import Evaluator
from tasks.search.journal import Journal
from tasks.search.plan import Planner
from tests.tasks.search.support import ENCODERS, PLANTS, Prepared, Weights, base_weights, plant, plant_channel

PrepareWith = Callable[[Weights], Prepared]


def excluded(planner: Planner) -> set[str]:
    return {unit.module for unit in planner.best().excluded}


def drawn(count: int) -> tuple[set[str], Weights]:
    """So many modules, another draw at each run, and the weights with outliers in front of them."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    modules = rng.choice(list(PLANTS), count, replace=False).tolist()
    weights = base_weights()
    for module in modules:
        plant(weights, module, rng)
    return set(modules), weights


def same_in_fp32(first: Prepared, second: Prepared) -> bool:
    return all(np.array_equal(first.evaluator.fp32[e][1], second.evaluator.fp32[e][1]) for e in ENCODERS)


def test_without_outliers_nothing_is_excluded(plain: Prepared, tmp_path: Path) -> None:
    planner = plain.search(Journal(tmp_path / "j", "a"), budget=1)
    assert planner.trials[0].passed and excluded(planner) == set()


@pytest.mark.parametrize("count", [1, 3])
def test_exactly_the_planted_modules_are_excluded(
    count: int, prepared_with: PrepareWith, plain: Prepared, tmp_path: Path
) -> None:
    modules, weights = drawn(count)
    prepared = prepared_with(weights)
    assert same_in_fp32(prepared, plain)
    planner = prepared.search(Journal(tmp_path / "j", "a"))
    assert not planner.trials[0].passed
    assert excluded(planner) == modules


@pytest.mark.parametrize("count", [1, 2])
def test_a_huge_output_channel_is_scaled_by_itself_and_nothing_excluded(
    count: int, prepared_with: PrepareWith, tmp_path: Path
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    candidates = [module for module in PLANTS if not module.endswith("fc2")]  # what follows a normalisation
    modules = rng.choice(candidates, count, replace=False).tolist()
    weights = base_weights()
    for module in modules:
        plant_channel(weights, module, rng)
    planner = prepared_with(weights).search(Journal(tmp_path / "j", "a"))
    best = planner.best()
    assert not planner.trials[0].passed
    assert ({unit.module for unit in best.by_channel}, best.excluded) == (set(modules), set())
    assert best.share == planner.trials[0].share


def test_a_killed_search_goes_on_where_it_was(
    prepared_with: PrepareWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules, weights = drawn(1)
    prepared = prepared_with(weights)
    path, evaluated = tmp_path / "j", []
    original = Evaluator.rows

    def rows(self: Evaluator, choice: Choice) -> list[Any]:
        evaluated.append(choice)
        return original(self, choice)

    monkeypatch.setattr(Evaluator, "rows", rows)
    whole = prepared.search(Journal(path, "a"))
    assert excluded(whole) == modules and len(evaluated) == len(whole.trials)
    # The kill: half of the last evaluation's line has been written.
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    evaluated.clear()
    again = prepared.search(Journal(path, "a"))
    assert evaluated == [whole.trials[-1].choice]
    assert repr(again.trials) == repr(whole.trials)  # NaN is not equal to itself
