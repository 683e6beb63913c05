"""Runs of the real wiring with the real cache keys and without Prefect: results lie in a dictionary by key.

A step whose key is not there is computed by its own function, or a stand-in is made: a copy of what the step returned
in a run that was real, with every object replaced by one of its own content. Then everything that depends on the step
has other inputs, and so other keys, as when its work had come out different.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError

from artifacts.errors import ObjectDamaged, ObjectMissing
from artifacts.refs import ArtifactRef
from artifacts.store.store import Store, activate, active_store
from flows.inputs import recipe_of
from flows.parameters import OptimizeParameters
from flows.planned_steps import LastTimes, PlannedStep
from flows.step_runner import Ended, Job, StepRunner
from flows.wiring import Drafted, Wiring
from tasks.runs.steps import StepOutput
from tests.flows.conftest import LABELS, small_parameters

Make = Callable[[Any, dict[str, Any], str], StepOutput]
"""What a step makes of its inputs; the last argument is its key."""


class KeyedRunner(StepRunner):
    """`kept` is the cache: what steps returned, as JSON, by their key. `calls` are the steps whose work was done, for
    example `embed image fp8 onnxruntime`, and `done` are they as the plan names them."""

    def __init__(self, kept: dict[str, str], make: Make) -> None:
        super().__init__()
        self.kept, self.make = kept, make
        self.calls: list[str] = []
        self.done: set[PlannedStep] = set()
        self.outputs: dict[str, StepOutput] = {}
        self.warnings: list[str] = []
        self.planned: list[PlannedStep] = []

    def expect(self, steps: Sequence[PlannedStep], times: LastTimes | None) -> None:
        self.planned = list(steps)
        super().expect(steps, times)

    def call(self, name: str, step: Any, job: Job) -> Ended:
        bound = inspect.signature(step.fn).bind(*job.arguments)
        bound.apply_defaults()
        inputs = dict(bound.arguments)
        key = step.cache_policy.compute_key(None, inputs, {})
        words = words_of(step, inputs)
        try:
            output = resolve_name(step.cache_policy.result).model_validate_json(self.kept[key])
            cached = True
        except (KeyError, ValidationError, ObjectDamaged, ObjectMissing):  # as Prefect does with what it cannot read
            self.calls.append(words)
            self.done.add(PlannedStep(name, tuple(job.label.values())))
            try:
                output, cached = self.make(step, inputs, key), False
            except Exception as error:  # noqa: BLE001  (raised again where the result is asked for, as by Prefect)
                return Failed(error)
            self.kept[key] = output.model_dump_json()
        self.outputs[words] = output
        return SimpleNamespace(name="Cached" if cached else "Completed", result=lambda: output)

    def plain(self, task: Any, *arguments: Any) -> Any:
        return task.fn(*arguments)

    def name_run(self, name: str) -> None:
        """There is nobody to show it to."""

    def say(self, message: str) -> None:
        logging.getLogger(__name__).info("%s", message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@dataclass(frozen=True)
class Failed:
    """How a step ended that raised."""

    error: Exception
    name: str = "Failed"

    def result(self) -> Any:
        raise self.error


def words_of(step: Any, inputs: dict[str, Any]) -> str:
    """A step's name and what tells this call from others."""
    return " ".join([step.name, *(inputs[label] for label in LABELS if label in inputs)])


def compute(step: Any, inputs: dict[str, Any], _key: str) -> StepOutput:
    """The step's own work."""
    return step.fn(**inputs)


class StandIns:
    """Makes stand-ins from the outputs of a real run."""

    def __init__(self, outputs: dict[str, StepOutput]) -> None:
        self.outputs = outputs

    def __call__(self, step: Any, inputs: dict[str, Any], key: str) -> StepOutput:
        words = words_of(step, inputs)
        template = self.outputs.get(words) or self.outputs[words.replace(str(inputs.get("target")), "onnxruntime")]
        changes: dict[str, Any] = {
            name: own_object(value, f"{key} {name}") for name, value in template if isinstance(value, ArtifactRef)
        }
        changes |= {name: inputs[name] for name in LABELS if name in inputs and name in type(template).model_fields}
        return template.model_copy(update=changes)


def own_object(like: ArtifactRef, text: str) -> ArtifactRef:
    """An object of the same kind and with the same files, whose content is this text."""
    store = active_store()
    with store.staging() as folder:
        for file in like.files:
            (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.path).write_text(text)
        return store.add(like.kind, folder)


def run_wiring(runner: StepRunner, model: Path, store: Store, **changes: Any) -> Drafted:
    """Run the wiring of `optimize` with `small_parameters`, and hold it to its plan; nothing is published."""
    parameters = OptimizeParameters.model_validate(small_parameters(model, store.root, **changes))
    with activate(store):
        drafted = Wiring(parameters, recipe_of(parameters), runner).run()
    if isinstance(runner, KeyedRunner):
        assert runner.planned == taken(runner)
    return drafted


def taken(runner: StepRunner) -> list[PlannedStep]:
    """The steps that a run has taken, in order."""
    return [
        PlannedStep(str(row["step"]), tuple(str(row[name]) for name in LABELS if row[name] is not None))
        for row in runner.stages
    ]


@dataclass(frozen=True)
class Base:
    """A run of the small CLIP whose steps did their own work: its store, what it left in the cache, and the sources of
    data that it opened, each with its role."""

    model: Path
    store: Store
    kept: dict[str, str]
    stand_in: StandIns
    sources: list[tuple[str, str]]

    def run(
        self, model: Path | None = None, store: Store | None = None, make: Make | None = None, **changes: Any
    ) -> tuple[Drafted, KeyedRunner]:
        """Run again with what is in the cache; what is not there is a stand-in, or is made by `make`."""
        runner = KeyedRunner(dict(self.kept), make or self.stand_in)
        return run_wiring(runner, model or self.model, store or self.store, **changes), runner

    def calls(self, **arguments: Any) -> list[str]:
        """The steps whose work `run` did."""
        return sorted(self.run(**arguments)[1].calls)
