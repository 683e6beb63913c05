"""The main flow: one CLIP checkpoint in, one compared and published release out."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.runtime import flow_run

from artifacts.copies.opening import open_store
from artifacts.errors import GateFailed
from artifacts.report.gate_words import sentence, tally
from artifacts.store.store import activate, active_store
from flows.described_flow import described_flow
from flows.inputs import recipe_of
from flows.known_plans import KnownPlans
from flows.parameters import DEMO, OptimizeParameters
from flows.preflight import require_calibration_data
from flows.step_runner import PrefectRunner
from flows.wiring import Wiring, run_name, short_name
from tasks.engines.available import require_target
from tasks.pipeline.publish import Draft, Published, publish_task
from tasks.prefect_ui.release_artifacts import show_release_task, show_tables_task
from tasks.prefect_ui.tags import name_run, tag_run
from tasks.runs.step_limit import step_limit
from tasks.runs.step_results import say_if_new

_MINUTE_S = 60


def _run_name() -> str:
    """The run's first name, from the parameters; the wiring renames it once the revision is known."""
    parameters = flow_run.parameters["parameters"]
    return run_name(parameters, parameters.revision)


@described_flow(_run_name)
def optimize(parameters: OptimizeParameters = DEMO) -> Published:
    """Quantize a CLIP checkpoint to FP8, build and compare its engines, and publish a release.

    A release that fails a gate is published as rejected, and the run fails.

    Args:
        parameters: The model, what to calibrate and evaluate on, and what to build.
    """
    tag_run(short_name(parameters.model), parameters.targets)
    for target in parameters.targets:
        require_target(target, *parameters.precisions)
    require_calibration_data(parameters)
    recipe = recipe_of(parameters)
    with activate(open_store(parameters.store)), step_limit(parameters.step_minutes * _MINUTE_S):
        say_if_new()
        plans = KnownPlans(active_store())
        made = Wiring(parameters, recipe, PrefectRunner(parameters.step_minutes), plans.check_ahead).run()
        show_tables_task(made.draft)
        published: Published = publish_task(made.draft)
        plans.remember(made.plan, flow_run.id, published)
        name_run(run_name(parameters, None, published.ref))
        # A failure here must not fail the run: the release is published.
        show_release_task(published.ref, return_state=True)
        if not published.new:
            get_run_logger().info("nothing new: this run's work is %s, published before", published.ref)
        _require_accepted(made.draft, published)
        return published


def _require_accepted(draft: Draft, published: Published) -> None:
    """Log what the gates found.

    Raises:
        GateFailed: the release, which is published by now, is rejected.
    """
    for result in draft.gates:
        if result.status != "passed":
            get_run_logger().warning("gate %s", sentence(result))
    get_run_logger().info("gates: %s", tally(draft.gates) or "none")
    failed = [sentence(result) for result in draft.gates if result.rejects]
    if failed:
        raise GateFailed.of(
            "\n".join([f"{published.ref} is published as rejected", *(f"  {text}" for text in failed)]),
            release=published.ref,
            new=published.new,
            where=published.store,
            fix="see its report for what changed; keep layers in FP16 with a recipe, or change `gates`",
        )
