"""The steps that a run will take, in order, and how long each took the last time: told before, and while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from artifacts.errors import ClipsmithError
from artifacts.manifest import Encoder, Precision
from artifacts.number_words import about, counted
from artifacts.schema import number
from artifacts.store.store import Store
from flows.parameters import OptimizeParameters
from tasks.clip.base import ENCODERS
from tasks.device.gpu import torch_gpu
from tasks.engines import backend_for
from tasks.evaluation.executors import choose_executor
from tasks.evaluation.kept_embeddings import REFERENCE
from tasks.quantizing.recipe import load_recipe

PRECISIONS: tuple[Precision, ...] = ("fp16", "fp8")


class PlannedStep(NamedTuple):
    """A call of a step: the step's name, and the words that tell it from others: encoder, precision, target."""

    name: str
    label: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.name, *self.label))


class LastTimes(NamedTuple):
    """How long the steps of a release took, in seconds."""

    ref: str
    seconds: Mapping[PlannedStep, float]

    def left(self, ahead: Sequence[PlannedStep]) -> float | None:
        """How long these steps will take if they take as long again, in seconds; None where one is not known."""
        known = [self.seconds[step] for step in ahead if step in self.seconds]
        return sum(known) if len(known) == len(ahead) else None


def last_times(store: Store, model: str) -> LastTimes | None:
    """Those of the newest release of `model`; None where there is none that can be read."""
    try:
        manifest = store.find(model)
    except ClipsmithError:
        return None
    seconds: dict[PlannedStep, float] = {}
    for row in manifest.tables.get("stages", ()):
        label = tuple(str(row[name]) for name in ("encoder", "precision", "target") if row[name] is not None)
        if (took := number(row, "wall_s")) is not None:
            seconds[PlannedStep(str(row["step"]), label)] = took
    return LastTimes(manifest.ref, seconds)


def plan_words(steps: Sequence[PlannedStep], times: LastTimes | None) -> str:
    """`29 steps, about 4 min left by the last run's times (demo@1)`."""
    left = None if times is None else times.left(steps)
    return counted(len(steps), "step") + (
        f", about {about(left)} left by the last run's times ({times.ref})" if times and left else ""
    )


def encoders_of(parameters: OptimizeParameters) -> list[Encoder]:
    """Those that were asked for, in the order in which they are worked on."""
    return [encoder for encoder in ENCODERS if encoder in parameters.encoders]


def precisions_of(parameters: OptimizeParameters) -> list[Precision]:
    """Likewise."""
    return [precision for precision in PRECISIONS if precision in parameters.precisions]


def telling(targets: Iterable[str]) -> list[str]:
    """Those targets whose engines tell what their builders made."""
    return [target for target in targets if backend_for(target).tells]


def planned_steps(
    parameters: OptimizeParameters, samples: int, *, brings_amax: bool, brings_state: bool
) -> list[PlannedStep]:
    """The steps of a run, in the order in which `flows.wiring` takes them.

    Args:
        parameters: Of the run.
        samples: How many the evaluation set has.
        brings_amax: Whether the checkpoint is calibrated already.
        brings_state: Whether it brings a ModelOpt state that is passed on as it is.

    A graph of more than `PAYS_FROM_BYTES` may be judged by one step more on a machine without a GPU.
    """
    found = [PlannedStep("check"), PlannedStep("parity")]
    found += [PlannedStep("trace", (encoder,)) for encoder in encoders_of(parameters)]
    if "fp8" in parameters.precisions:
        if load_recipe(parameters.recipe).attention:
            asked = telling(parameters.targets)
            found += [
                PlannedStep("probe", (encoder, target)) for encoder in encoders_of(parameters) for target in asked
            ]
        found += _quantizing(parameters, brings_amax, brings_state)
    found += [PlannedStep("fp16-range", (encoder,)) for encoder in encoders_of(parameters)]
    exports = [(encoder, precision) for encoder in encoders_of(parameters) for precision in precisions_of(parameters)]
    for encoder in encoders_of(parameters):
        for precision in precisions_of(parameters):
            found += [PlannedStep(name, (encoder, precision)) for name in ("export", "audit")]
    builds = [(*export, target) for export in exports for target in parameters.targets]
    found += [PlannedStep("build", label) for label in builds]
    found += _evaluating(parameters, samples, exports, builds)
    return found + [
        PlannedStep("latency", (encoder, target))
        for encoder in encoders_of(parameters)
        for target in parameters.targets
    ]


def _quantizing(parameters: OptimizeParameters, brings_amax: bool, brings_state: bool) -> Iterator[PlannedStep]:
    if brings_amax:
        if not brings_state:
            yield PlannedStep("restore")
        return
    for encoder in encoders_of(parameters):
        if len(parameters.calibration.of(encoder).candidates()) > 1 or parameters.calibration.sufficiency:
            yield PlannedStep("study", (encoder,))
        yield PlannedStep("calibrate", (encoder,))
    yield PlannedStep("quantize")


def _evaluating(
    parameters: OptimizeParameters,
    samples: int,
    exports: Sequence[tuple[str, str]],
    builds: Sequence[tuple[str, str, str]],
) -> Iterator[PlannedStep]:
    asked, on_gpu = parameters.evaluation.executor, torch_gpu() is not None
    judged = [label for label in exports if choose_executor(asked, label[1], samples, None) == "torch"]
    judging = [PlannedStep("judge", label) for label in judged]
    if not on_gpu:
        yield from judging
    for encoder in ENCODERS:
        yield PlannedStep("embed", (encoder, "fp32", REFERENCE))
    for export in exports:
        yield PlannedStep("embed", (*export, "onnxruntime"))
    for build in builds:
        if build[2] != "onnxruntime" and backend_for(build[2]).why_not_run(build[2]) is None:
            yield PlannedStep("embed", build)
    if on_gpu:
        yield from judging
    yield PlannedStep("score")
