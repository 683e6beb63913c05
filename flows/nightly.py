"""The nightly run: makes each variant again if anything that decides it has changed, and reports each outcome."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from textwrap import indent
from typing import NamedTuple, Protocol, cast

from prefect import get_run_logger, tags, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelling
from pydantic import Field

from artifacts.copies.opening import open_store
from artifacts.errors import AliasNotFound, ClipsmithError, ConfigError, VariantsFailed
from artifacts.inert import visible
from artifacts.keeping import history
from artifacts.keeping.automatic_promotion import why_not
from artifacts.keeping.promotion import promote
from artifacts.manifest import Manifest
from artifacts.nearest import meant, nearest
from artifacts.prefect_forms import FormModel
from artifacts.refs import digest_json
from artifacts.release.regression import findings, sentence
from artifacts.store import aliases
from artifacts.store.store import Store, activate
from flows.defaults import STORE, default_store
from flows.described_flow import described_flow
from flows.inputs import pin_arguments, plan_content, recipe_of
from flows.known_plans import KnownPlans
from flows.optimize import optimize
from flows.parameters import OptimizeParameters, Recorded
from flows.plan_changes import Content, changes
from flows.side_by_side import side_by_side
from flows.variants import BadVariant, Variant, not_variants, read_variants, variants_folder, warning
from tasks.data.pinned import pin_both
from tasks.engines.child import builders_stopped
from tasks.pipeline.checkpoint import resolve
from tasks.pipeline.publish import Published
from tasks.prefect_ui.nightly_summary import Outcome, report_regressions, show_summary_task
from tasks.prefect_ui.tags import VARIANT

_READERS = 4
"""How many variants' inputs are read at once, in threads: hashing releases Python's global lock."""
_HOUR = 3600
_NAMED = 5
"""How many variants the name of a run names."""


class NightlyParameters(FormModel):
    """Which variants, and where their releases live."""

    variants: list[str] = Field(default=[], description="Names of variants, as demo; none means all of them.")
    at_once: int = Field(default=2, ge=1, le=64, description="How many changed variants are made at the same time.")
    hours: int = Field(default=12, ge=1, le=72, description="How long one variant may take before it is cancelled.")
    store: Recorded = Field(default_factory=default_store, min_length=1, description=STORE)


DEFAULTS = NightlyParameters()


def _run_name() -> str:
    """The run's name, from the parameters: the variants, of many the first."""
    names = flow_run.parameters["parameters"].variants
    return visible("nightly " + (", ".join(names[:_NAMED]) + ", ..." * (len(names) > _NAMED) or "all variants"))


@described_flow(_run_name)
def nightly(parameters: NightlyParameters = DEFAULTS) -> list[Outcome]:
    """Make every variant again whose checkpoint, data, settings or software have changed.

    One that fails does not stop the others; the run then fails, and names it. A folder without variants fails it, too.

    Args:
        parameters: Which variants, and where their releases live.
    """
    if others := not_variants(variants_folder()):
        get_run_logger().warning(warning(others))
    variants = chosen(read_variants(variants_folder()), parameters.variants)
    store = open_store(parameters.store)
    with activate(store):
        outcomes = _Night(parameters, store).run(variants)
    show_summary_task(outcomes)
    for outcome in outcomes:
        get_run_logger().info("%s: %s", outcome.variant, outcome.sentence())
    failed = [outcome for outcome in outcomes if outcome.bad]
    if failed:
        nothing = "" if any(outcome.release for outcome in outcomes) else "nothing was made: "
        error = VariantsFailed(
            f"{nothing}{len(failed)} of {len(outcomes)} variants failed: {', '.join(o.variant for o in failed)}\n"
            + indent("\n".join(f"{outcome.variant}: {outcome.sentence()}" for outcome in failed), "    "),
            where=variants_folder(),
            fix="the other variants are done; correct these, or see their own runs, and run again",
        )
        error.outcomes = [outcome.model_dump(mode="json") for outcome in outcomes]
        raise error
    return outcomes


def chosen(found: list[Variant | BadVariant], names: list[str]) -> list[Variant | BadVariant]:
    """The variants to make: those of the names that were given, or all.

    Raises:
        ConfigError: a name that no variant has, or no variants at all.
    """
    if not found and not names:
        raise ConfigError(
            "nothing was made: the folder holds no variant",
            where=variants_folder(),
            expected="YAML files, one variant each",
            fix="add one, correct CLIPSMITH_VARIANTS, or pause the schedule of nightly",
        )
    unknown = sorted(set(names) - {variant.name for variant in found})
    if unknown:
        known = [variant.name for variant in found]
        raise ConfigError(
            f"no variant {', '.join(unknown)}",
            where=variants_folder(),
            expected=f"some of {', '.join(known) or 'none, the folder is empty'}",
            fix=f"{meant(nearest(unknown[0], known))}correct the name, or add its file",
        )
    return [variant for variant in found if not names or variant.name in names]


class _Look(NamedTuple):
    """A variant with its plan content, and either the release that this plan led to before, or the reason to make the
    variant."""

    variant: Variant
    content: Content
    before: Manifest | None
    why: str


class _Night:
    """One nightly run."""

    def __init__(self, parameters: NightlyParameters, store: Store) -> None:
        self.parameters = parameters
        self.store = store
        self.plans = KnownPlans(store)

    def run(self, variants: list[Variant | BadVariant]) -> list[Outcome]:
        """The outcome of each variant, in the given order. An unchanged variant costs only reading its inputs."""
        looked = list(side_by_side(self._look, variants, _READERS))
        return list(side_by_side(self._finish, looked, self._at_once(), _stopped))

    def _at_once(self) -> int:
        """How many variants are made at a time. In this process one alone: ModelOpt replaces functions of PyTorch's
        modules while it works, and transformers fills its own, so that threads would see each other's halves."""
        return 1 if deployment.id is None and processes.get() is None else self.parameters.at_once

    def _look(self, variant: Variant | BadVariant) -> Outcome | _Look:
        """What decides a variant's release, or the outcome if the variant is broken."""
        if isinstance(variant, BadVariant):
            return Outcome.failed(variant.name, str(variant.error))
        try:
            content = self._content(variant.parameters)
            known = self.plans.known(digest_json(content))
            before = None if known is None else self._whole(known)
            why = "" if before else self._why(variant.name, content, lost=known is not None)
            return _Look(variant, content, before, why)
        except Exception as error:  # noqa: BLE001  (an error of one variant must not stop the others)
            return _failure(variant, error)

    def _why(self, variant: str, content: Content, *, lost: bool) -> str:
        """Why a variant is made whose plan has no release in the store; `lost` if it had one that is gone."""
        if lost:
            return "its release is gone or damaged"
        last = self.plans.variant(variant)
        if last is None:
            return "nothing is remembered of an earlier night"
        return changes(last, content) or "nothing is remembered of its release"

    def _content(self, parameters: OptimizeParameters) -> Content:
        """Read, and digest, the checkpoint and the data."""
        recipe = recipe_of(parameters)
        snapshot = resolve(parameters.model, parameters.revision, self.store, parameters.name, parameters.chosen_size)
        data = pin_both(*pin_arguments(parameters, recipe, snapshot, self.store))
        return plan_content(parameters, recipe, snapshot, data)

    def _whole(self, published: Published) -> Manifest | None:
        """The release, if the store still has all of it; else None, and it is made again."""
        try:
            with self.store.reading():
                manifest = self.store.find(published.ref)
                self.store.require_objects(manifest)
        except ClipsmithError:
            return None
        return manifest if manifest.identity == published.identity else None

    def _finish(self, looked: Outcome | _Look) -> Outcome:
        if isinstance(looked, Outcome):
            return looked
        variant = looked.variant
        try:
            if looked.before is None:
                get_run_logger().info("%s is made: %s", variant.name, looked.why)
                outcome = self._make(variant)
            else:
                outcome = self._judge(variant, looked.before, changed=False)
            if outcome.release is not None:
                self._remember(variant.name, looked.content)
            return outcome.model_copy(update={"why": looked.why})
        except Exception as error:  # noqa: BLE001  (as above)
            return _failure(variant, error).model_copy(update={"why": looked.why})

    def _remember(self, variant: str, content: Content) -> None:
        """Remember the content, to explain the next change; a failure here does not fail the variant."""
        try:
            self.plans.remember_variant(variant, content)
        except Exception as error:  # noqa: BLE001
            get_run_logger().warning("%s: the next night cannot say what has changed: %s", variant, error)

    def _make(self, variant: Variant) -> Outcome:
        wanted = variant.parameters.model_copy(update={"store": str(self.store.root)})
        step = make_variant_task.with_options(task_run_name=f"make-{variant.name}")
        limit_s, named = self.parameters.hours * _HOUR, "store" in self.parameters.model_fields_set
        state: State[Made] = step(variant.name, wanted, limit_s, named, return_state=True)
        if not state.is_completed():
            return Outcome.failed(variant.name, _ending(state))
        run = state.result()
        made = self.plans.made_by(run.id) if run.id else None
        if made is None:
            return Outcome.failed(variant.name, run.ended)
        return self._judge(variant, self.store.find(made.ref), changed=made.new)

    def _judge(self, variant: Variant, release: Manifest, *, changed: bool) -> Outcome:
        """Compare a release with the one that the alias points to and with its history, and promote it if configured.

        The comparison with its history is made once per release, also if the release was made by `optimize` by hand or
        by a nightly run that ended before the comparison.
        """
        production: Manifest | None = None
        with suppress(AliasNotFound):
            production = self.store.find(f"{release.model}:{variant.promote or 'production'}")
        judged = self.plans.judged(release.identity)
        alarms: list[str] = []
        if not judged:
            others, _ = history.read(self.store, release.model)
            alarms = [sentence(finding) for finding in findings(others, release) if finding.alarming]
        report_regressions(release, alarms)
        if not judged:
            self.plans.remember_judged(release.identity)
        held = "" if variant.promote is None else self._promote(variant, variant.promote, release, production)
        promoted = held is None
        outcome = Outcome.of(variant.name, release, production, changed=changed, promoted=promoted, alarms=alarms)
        return outcome.model_copy(update={"held": held or ""})

    def _promote(self, variant: Variant, alias: str, release: Manifest, production: Manifest | None) -> str | None:
        """Move the alias, unless it has pointed to the release before and was rolled back. Returns None if it was
        moved, else the reason why not (empty if it points there already)."""
        try:
            entries = aliases.history(self.store.root, release.model, alias)
        except AliasNotFound:
            entries = []
        if entries and entries[-1].version == release.version:
            return ""
        if any(entry.version == release.version for entry in entries):
            return f"{alias} has pointed to it before"
        reason = why_not(release, production, variant.max_drop_against_production)
        if reason is not None:
            return reason
        seen = entries[-1].number if entries else 0
        why = "nightly: all gates passed, and no worse than what it pointed to"
        return None if promote(self.store, release.ref, alias, why=why, seen=seen).moved else ""


def _failure(variant: Variant, error: Exception) -> Outcome:
    """The outcome of a variant that failed; unexpected errors are logged with their traceback."""
    if isinstance(error, ClipsmithError):
        return Outcome.failed(variant.name, str(error))
    get_run_logger().error("%s: unexpected error", variant.name, exc_info=error)
    return Outcome.failed(variant.name, f"{type(error).__name__}: {error}")


class Made(NamedTuple):
    """A run of `optimize`, and how it ended in words; no id if its process died."""

    id: str
    ended: str


class Processes(Protocol):
    """Runs `optimize` in other processes."""

    def make(self, variant: str, parameters: OptimizeParameters) -> Made:
        """Run it and wait for its end."""
        ...

    def stopped(self) -> AbstractContextManager[None]:
        """Inside the block all of them are told to end, and none begins."""
        ...


processes: ContextVar[Processes | None] = ContextVar("processes", default=None)
"""Where variants are made that no worker makes; None: in this process."""


@contextmanager
def _stopped() -> Iterator[None]:
    """Inside the block, end what this process has begun elsewhere."""
    apart = processes.get()
    with builders_stopped(), nullcontext() if apart is None else apart.stopped():
        yield


def run_here(variant: str, parameters: OptimizeParameters) -> Made:
    """Run `optimize` in this process, tagged with its variant as on a worker: its name begins with that."""
    with tags(VARIANT + variant):
        state: State = optimize(parameters, return_state=True)
    return Made(str(state.state_details.flow_run_id), _ending(state))


def _run_on_this_host(variant: str, parameters: OptimizeParameters) -> Made:
    """Run `optimize` where `processes` says; not in the task, which is pickled and so refers to no `ContextVar`."""
    if (apart := processes.get()) is not None:
        return apart.make(variant, parameters)
    return run_here(variant, parameters)


@task(name="make-variant", persist_result=False)
def make_variant_task(variant: str, parameters: OptimizeParameters, limit_s: int, store_named: bool) -> Made:
    """Run `optimize` and wait for its end: on any worker if this run is on a worker, else where `processes` says.

    On a worker the store is its own machine's, unless this run was told which one.
    """
    if deployment.id is None:
        return _run_on_this_host(variant, parameters)
    run = cast(
        "FlowRun",
        run_deployment(
            "optimize/optimize",
            parameters={"parameters": parameters.model_dump(mode="json", exclude=None if store_named else {"store"})},
            tags=[VARIANT + variant],
            timeout=limit_s,
            poll_interval=2,
        ),
    )  # blocks, as there is no event loop
    if run.state is None or not run.state.is_final():
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run.id, Cancelling(message="the nightly run's time limit"))
        return Made(str(run.id), f"not done within {limit_s // _HOUR} h, and cancelled")
    return Made(str(run.id), _ending(run.state))


def _ending(state: State) -> str:
    return ": ".join(words for words in (state.name, state.message) if words)
