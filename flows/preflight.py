"""Checks of the parameters before a run starts: they take a second, while a run needs ten seconds to begin."""

from __future__ import annotations

from pathlib import Path

from artifacts.errors import ConfigError
from artifacts.store.store import look_into
from flows.parameters import OptimizeParameters
from tasks.checkpoints.describing import describe
from tasks.checkpoints.hub_name import typed_name
from tasks.checkpoints.locating import locate_here
from tasks.checkpoints.snapshot import AMAX_FILE
from tasks.data import check_classes, check_disjoint, check_distinct, check_enough
from tasks.data.opened import opened
from tasks.engines.available import require_target
from tasks.quantizing.recipe import load_recipe


def check_ahead(parameters: OptimizeParameters, *, change: bool = True) -> None:
    """Look at targets, recipe, model, store and data as the run will. Data sets that are opened here stay open for it.

    What is on the hub is left to the run. An empty store is made if there is none; without `change` nothing is made.

    Raises:
        UnknownTarget, EngineUnavailable, Fp8Unavailable, UnknownRecipe, CheckpointNotFound: as the run would.
        NotAStore, StoreReadOnly, UnsupportedFileSystem, DataNotFound, DataError, ConfigError: as the run would.
        TooFewSamples, DegenerateData, DataOverlap: as the run would.
    """
    for target in parameters.targets:
        require_target(target, *parameters.precisions)
    fp8 = "fp8" in parameters.precisions
    if fp8:
        load_recipe(parameters.recipe)
    model = typed_name(parameters.model)
    folder = locate_here(model, parameters.revision)
    if folder is not None:
        describe(folder, parameters.chosen_size)
    evaluation, count = parameters.evaluation.source_and_count(demo=model == "demo")
    evaluated = opened(evaluation, "evaluation", count, columns=parameters.evaluation.columns).dataset
    require_calibration_data(parameters)
    sets = [evaluated]
    calibration = parameters.calibration
    if fp8 and calibration.source is not None and not _calibrated(folder):
        source, columns = calibration.source, calibration.columns
        sets.append(opened(source, "calibration", calibration.sample_count, columns=columns).dataset)
    for each in sets:
        check_enough(each)
        check_distinct(each)
    check_classes(evaluated)
    for calibrated_on in sets[1:]:
        check_disjoint(calibrated_on, evaluated)
    if change or Path(parameters.store).expanduser().exists():
        look_into(parameters.store, writable=change)


def require_calibration_data(parameters: OptimizeParameters) -> None:
    """Refuse FP8 of a model that must be calibrated when no calibration data is given, before it is downloaded.

    Raises:
        ConfigError: it is so.
        CheckpointNotFound: the model is neither here nor a name of the hub.
    """
    if "fp8" not in parameters.precisions or parameters.calibration.source is not None:
        return
    model = typed_name(parameters.model)
    if model != "demo" and not _calibrated(locate_here(model, parameters.revision)):
        raise no_calibration_data(model)


def _calibrated(folder: Path | None) -> bool:
    """Whether a checkpoint brings its amax; those of the hub never do (`tasks.checkpoints.locating`)."""
    return folder is not None and (folder / AMAX_FILE).exists()


def no_calibration_data(model: str) -> ConfigError:
    """The error for a model that must be calibrated when no calibration data is given."""
    return ConfigError(
        f"no calibration data for {model}",
        expected="pictures and captions like those the model will see: their ranges decide the FP8 scales",
        fix="set calibration.source (--calibration) to a folder with captions.csv or class folders, datasets:NAME, "
        "wds:NAME, or digits",
    )


def plan_line(parameters: OptimizeParameters) -> str:
    """What the run is going to do, in one line."""
    made = f"{' and '.join(parameters.precisions)} for {', '.join(parameters.targets)}"
    return f"optimize {parameters.model}: {made}, into {parameters.store}"
