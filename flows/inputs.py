"""What a run starts from, and the digest of all of it (the plan): a run with an equal plan makes nothing new."""

from __future__ import annotations

# Importing a module registers its step. All are imported here, or the plan would depend on what else was imported.
import tasks.pipeline.accuracy
import tasks.pipeline.attention_probe
import tasks.pipeline.calibration
import tasks.pipeline.calibration_study
import tasks.pipeline.embedding
import tasks.pipeline.engine_build
import tasks.pipeline.executor_check
import tasks.pipeline.fp16_range
import tasks.pipeline.graph_audit
import tasks.pipeline.latency
import tasks.pipeline.onnx_export
import tasks.pipeline.parity
import tasks.pipeline.quantization  # noqa: F401
from artifacts.refs import digest_json
from artifacts.store.store import Store
from flows.parameters import OptimizeParameters
from flows.plan_changes import Content
from flows.preflight import no_calibration_data
from tasks.checkpoints.snapshot import Snapshot
from tasks.data.pinned import PinnedData
from tasks.pipeline.checkpoint import calibrated_on
from tasks.quantizing.recipe import Recipe, load_recipe
from tasks.runs.steps import STEPS
from tasks.runs.versions import package_version

PinArguments = tuple[str | None, int, str, int, list[str], str | None, str | None]


def recipe_of(parameters: OptimizeParameters) -> Recipe | None:
    """The FP8 recipe that was asked for; None for FP16 alone."""
    return load_recipe(parameters.recipe) if "fp8" in parameters.precisions else None


def pin_arguments(
    parameters: OptimizeParameters, recipe: Recipe | None, snapshot: Snapshot, store: Store
) -> PinArguments:
    """The arguments for `tasks.data.pinned.pin_both`.

    Raises:
        ConfigError: the model must be calibrated, and no calibration data is given.
    """
    calibration = _calibration_source(parameters, recipe, snapshot)
    seen = sorted(calibrated_on(snapshot, store)) if snapshot.calibrated else []
    evaluation = parameters.evaluation.source_and_count(demo=snapshot.kind == "demo")
    columns = parameters.calibration.columns, parameters.evaluation.columns
    return calibration, parameters.calibration.sample_count, *evaluation, seen, *columns


def _calibration_source(parameters: OptimizeParameters, recipe: Recipe | None, snapshot: Snapshot) -> str | None:
    """The calibration source, or None if nothing has to be calibrated."""
    source = parameters.calibration.source
    if recipe is None or snapshot.calibrated:
        return None
    if source is None and snapshot.kind != "demo":
        raise no_calibration_data(snapshot.name)
    return source or "digits"


def plan(parameters: OptimizeParameters, recipe: Recipe | None, snapshot: Snapshot, data: PinnedData) -> str:
    """The digest of everything that decides what a run makes."""
    return digest_json(plan_content(parameters, recipe, snapshot, data))


def plan_content(
    parameters: OptimizeParameters, recipe: Recipe | None, snapshot: Snapshot, data: PinnedData
) -> Content:
    """Everything that decides what a run makes, as JSON: contents, parameters, steps and packages.

    It has no names and paths except the model's name, and nothing about the machine: if the steps run for another
    reason, their own cache keys notice another GPU.
    """
    settings = parameters.model_dump(
        mode="json", exclude={"model", "revision", "name", "recipe", "step_minutes", "store"}
    )
    for section in ("calibration", "evaluation"):
        for place in ("source", "columns"):  # the digests cover their contents
            settings[section].pop(place)
    del settings["image_size"]  # replaced by the resolved size, which only models without a size of their own have
    if snapshot.image_size is not None:
        settings["image_size"] = list(snapshot.image_size)
    return {
        "source": {"model": snapshot.model, "digest": snapshot.digest, "calibrated": snapshot.calibrated},
        "calibration": None if data.calibration is None else data.calibration.digest,
        "evaluation": data.evaluation.digest,
        "recipe": None if recipe is None else recipe.digest,
        "settings": settings,
        "steps": {
            name: {"version": version, "result": result, "packages": {each: package_version(each) for each in packages}}
            for name, (version, packages, result) in STEPS.items()
        },
        "clipsmith": package_version("clipsmith"),
    }
