"""Runs that need the same step at once: one computes it, the others wait and use its result."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifacts.refs import ArtifactRef
from artifacts.store.store import Store
from tasks.runs.step_cost import StepStats
from tasks.runs.steps import StepOutput, cached_step
from tests.conftest import CLIPSMITH
from tests.flows.conftest import small_parameters
from tests.processes import own_environment


class Made(StepOutput):
    thing: ArtifactRef


def make(content: bytes, store: Store) -> Made:
    with store.staging() as folder:
        (folder / "f").write_bytes(content)
        return Made(thing=store.add("thing", folder), stats=StepStats(wall_s=0, peak_rss_mb=0))


def run_three(step: Any) -> list[str]:
    """Call a step three times at once; the names of the states it ended in."""
    from prefect import flow

    @flow
    def three() -> list[str]:
        futures = [step.submit(1) for _ in range(3)]
        for future in futures:
            future.wait()
        return sorted(future.state.name for future in futures)

    return three()


def test_threads_of_one_run(store: Store) -> None:
    calls: list[int] = []

    @cached_step("at-once", version=1)
    def step(number: int) -> Made:
        calls.append(number)
        time.sleep(1)
        return make(b"x", store)

    assert run_three(step) == ["Cached", "Cached", "Completed"]
    assert calls == [1]
    assert not list((store.root / "locks").iterdir())


def test_a_step_that_fails_lets_the_next_one_try(store: Store) -> None:
    calls: list[int] = []

    @cached_step("at-once-failing", version=1)
    def step(number: int) -> Made:
        calls.append(number)
        if len(calls) == 1:
            raise ValueError("not today")
        return make(b"y", store)

    assert run_three(step) == ["Cached", "Completed", "Failed"]
    assert calls == [1, 1]
    assert not list((store.root / "locks").iterdir())


STEP = re.compile(r" step +\d+ of \d+: (.+?) +[\d.]+ s +\d+ MiB(?:  [\d,]+/s)?(?:, about .+ left)?(  \(cached\))?$")


def computed(log: str) -> list[str]:
    """The steps that a run computed, from its log."""
    return [match[1] for line in log.splitlines() if (match := STEP.search(line)) and not match[2]]


@pytest.mark.heavy
def test_two_identical_runs_at_once(small_clip: Path, tmp_path: Path) -> None:
    """On a new store and a new Prefect home, so that they race for those as well."""
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(small_parameters(small_clip, tmp_path / "store")))
    command = [str(CLIPSMITH), "optimize", "--config", str(config), "--json"]
    environment = own_environment(PREFECT_HOME=str(tmp_path / "prefect"))
    pipe = subprocess.PIPE
    runs = [subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    ended = [run.communicate(timeout=500) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ended
    one, two = (json.loads(out) for out, _ in ended)
    assert sorted([one.pop("new"), two.pop("new")]) == [False, True]
    assert one == two
    steps = [step for _, err in ended for step in computed(err)]
    assert len(steps) == len(set(steps)) == 30
    assert len(Store.open(tmp_path / "store", writable=False).releases()) == 1
    assert not list((tmp_path / "store" / "locks").iterdir())
