"""What a run says of its steps: which of how many, and how long the rest will take. `tests.flows.keyed` holds every run
of the wiring to its plan."""

from __future__ import annotations

import re

import pytest

from artifacts.manifest import Row
from artifacts.schema import new_row
from artifacts.store.store import Store
from flows.parameters import OptimizeParameters
from flows.planned_steps import LastTimes, PlannedStep, last_times, plan_words, planned_steps
from tests.artifacts.conftest import build_manifest
from tests.artifacts.support import add, files_of, sealed
from tests.flows.keyed import Base

LINE = re.compile(r"step +(\d+) of (\d+): (.+?) +[\d.]+ s +\d+ MiB(?:  [\d,]+/s)?(.*)")
STEPS = [PlannedStep("check"), PlannedStep("build", ("image", "fp8", "onnxruntime"))]


def stage(step: PlannedStep, seconds: float | None) -> Row:
    label = dict(zip(("encoder", "precision", "target"), step.label, strict=False))
    return new_row("stages", step=step.name, **label, wall_s=seconds, peak_rss_mb=1.0)


def test_each_line_says_which_step_of_how_many(base: Base, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _, runner = base.run()
    found = [match.groups() for line in caplog.messages if (match := LINE.fullmatch(line))]
    total = len(runner.planned)
    assert [(int(number), int(of)) for number, of, *_ in found] == [(n, total) for n in range(1, total + 1)]
    assert [step for _, _, step, _ in found] == [str(step) for step in runner.planned]
    assert {rest for *_, rest in found} == {"  (cached)"}
    assert f"{total} steps" in caplog.messages, "nothing is known of how long they take"
    assert max(map(len, caplog.messages[-total:])) + len("12:00:00 ") <= 100


def test_the_rest_takes_as_long_as_in_the_last_release(base: Base, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _, runner = base.run()
    with pytest.MonkeyPatch.context() as patch:
        times = LastTimes("small@7", dict.fromkeys(runner.planned, 60.0))
        patch.setattr("flows.wiring.last_times", lambda *_: times)
        caplog.clear()
        base.run(calibration__samples=8)
    total = len(runner.planned)
    assert f"{total} steps, about {total} min left by the last run's times (small@7)" in caplog.messages
    said = {match[3]: match[4] for line in caplog.messages if (match := LINE.fullmatch(line))}
    assert said["calibrate image"] == f", about {total - 5} min left"
    assert max(map(len, (line for line in caplog.messages if LINE.fullmatch(line)))) + len("12:00:00 ") <= 100
    assert said["check"] == "  (cached)", "what comes after it may be, too"


def test_a_step_that_nobody_planned_is_counted(base: Base, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _, runner = base.run()
    total = len(runner.planned)
    caplog.clear()
    runner.stages.clear()
    runner.expect([step for step in runner.planned if step.name != "parity"], None)
    for name in ("check", "parity"):
        runner.stages.append(stage(PlannedStep(name), 1.0))
        which, _ = runner._place(PlannedStep(name))
        assert which == f"step {len(runner.stages):>2} of {total - 1 + (name == 'parity')}: "


def test_what_the_store_knows_of_the_last_run(store: Store) -> None:
    assert last_times(store, "none") is None
    stages = tuple(stage(step, seconds) for step, seconds in zip(STEPS, (2.0, 70.0), strict=True))
    made = build_manifest(tables={"stages": (*stages, stage(PlannedStep("score"), None))})
    ref = add(store)
    assert store.insert(sealed(made.model_copy(update={"files": files_of(ref)})))
    times = last_times(store, made.model)
    assert times == LastTimes(made.ref, dict(zip(STEPS, (2.0, 70.0), strict=True)))
    assert times is not None and times.left(STEPS) == 72.0 and times.left([]) == 0
    assert times.left([*STEPS, PlannedStep("score")]) is None, "of one it is not known"
    assert plan_words(STEPS, times) == f"2 steps, about 1 min left by the last run's times ({made.ref})"
    assert plan_words([PlannedStep("score")], times) == "1 step"


@pytest.mark.parametrize(
    ("amax", "state", "steps"),
    [(False, False, ["calibrate", "calibrate", "quantize"]), (True, False, ["restore"]), (True, True, [])],
)
def test_a_checkpoint_that_is_calibrated_is_not_calibrated_again(amax: bool, state: bool, steps: list[str]) -> None:
    planned = planned_steps(OptimizeParameters(), 20, brings_amax=amax, brings_state=state)
    assert [step.name for step in planned if step.name in ("calibrate", "quantize", "restore")] == steps


def test_on_a_gpu_pytorch_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.planned_steps.torch_gpu", lambda: "a GPU")
    monkeypatch.setattr("tasks.evaluation.executors.torch_gpu", lambda: "a GPU")
    planned = planned_steps(OptimizeParameters(), 20, brings_amax=False, brings_state=False)
    assert sum(step.name == "judge" for step in planned) == 4
