"""Measure two releases again, side by side on this machine: accuracy on the same samples, latency interleaved."""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger, task
from prefect.runtime import flow_run
from pydantic import Field, field_validator

from artifacts.copies.opening import open_store
from artifacts.errors import ConfigError, EngineMismatch
from artifacts.manifest import Encoder, Precision, Row
from artifacts.models import Frozen
from artifacts.prefect_forms import FormModel
from artifacts.store.store import activate, active_store
from flows.defaults import STORE, default_store
from flows.described_flow import described_flow
from flows.parameters import ONCE, EvaluationParameters, Recorded, targets_in_forms
from flows.promote import ReleaseReference
from tasks.clip.base import ENCODERS
from tasks.comparing.opened_release import ReleaseSide, calibrated_on, release_side
from tasks.comparing.paired_accuracy import Outputs, accuracy_rows
from tasks.comparing.paired_latency import blank_row, latency_rows
from tasks.data.picture_spool import discard_pictures
from tasks.data.pinned import DataRef, PinnedData, pin_data_task
from tasks.device.interleaved import LatencySettings
from tasks.engines import backend_for
from tasks.evaluation.executors import choose_executor
from tasks.evaluation.kept_embeddings import REFERENCE
from tasks.families import family_named
from tasks.pipeline.captions import require_whole_captions
from tasks.pipeline.class_names import require_classes_apart
from tasks.pipeline.embedding import Embeddings, batch_and_device, embed_task
from tasks.pipeline.executor_check import judge_task
from tasks.prefect_ui.comparison_artifacts import show_comparison_task

NOT_RUN = "not run"
_time = task(name="time", persist_result=False)(latency_rows)


class CompareParameters(FormModel):
    """Which two to measure, and how. The same release may be given twice, to hold its FP8 against its FP16."""

    before: ReleaseReference = Field(
        default="demo:production", description="The release to compare with: MODEL, MODEL@VERSION or MODEL:ALIAS."
    )
    after: ReleaseReference = Field(default="demo", description="The release to judge.")
    precision_before: Precision = Field(default="fp8", description="Which of its engines.")
    precision_after: Precision = Field(default="fp8", description="Which of its engines.")
    encoders: list[Encoder] = Field(
        default=["image", "text"], min_length=1, description="Which encoders.", json_schema_extra=ONCE
    )
    targets: list[str] = Field(
        default=["onnxruntime"],
        min_length=1,
        description="Engine targets; what cannot run here is listed with why.",
        json_schema_extra=targets_in_forms,
    )
    evaluation: EvaluationParameters = EvaluationParameters()
    latency: LatencySettings = LatencySettings()
    store: Recorded = Field(default_factory=default_store, min_length=1, description=STORE)

    @field_validator("targets")
    @classmethod
    def _known_targets(cls, values: list[str]) -> list[str]:
        for target in values:
            backend_for(target)
        return list(dict.fromkeys(values))


class Remeasured(Frozen):
    """The two releases, as `model@version precision`, and what was measured."""

    before: str
    after: str
    accuracy: list[Row]
    latency: list[Row]
    notes: list[str]


DEFAULTS = CompareParameters()


def _run_name() -> str:
    parameters = flow_run.parameters["parameters"]
    pair = f"{parameters.after} against {parameters.before}"
    return f"{pair}, {parameters.precision_after} against {parameters.precision_before}"


@described_flow(_run_name)
def compare(parameters: CompareParameters = DEFAULTS) -> Remeasured:
    """Run the engines of two releases again, on the same samples and in turns. Nothing is published.

    Args:
        parameters: The two releases, and what to measure them on.
    """
    with activate(open_store(parameters.store)) as store:
        before = release_side(store, parameters.before, parameters.precision_before)
        after = release_side(store, parameters.after, parameters.precision_after)
        found = _Comparison(parameters, before, after).run()
    show_comparison_task(found.before, found.after, found.accuracy, found.latency, found.notes)
    return found


class _Comparison:
    def __init__(self, parameters: CompareParameters, before: ReleaseSide, after: ReleaseSide) -> None:
        self.parameters, self.before, self.after = parameters, before, after
        self.sides = {"before": before, "after": after}

    def run(self) -> Remeasured:
        data = self._data()
        accuracy: list[Row] = []
        latency: list[Row] = []
        for target in self.parameters.targets:
            reason = self._why_not(target)
            if reason is None:
                outputs = [
                    Outputs(
                        made={encoder: self._embed(side, data, encoder, target) for encoder in self._encoders()},
                        fp32={e: self._embed(side, data, e, REFERENCE) for e in ENCODERS if not side.no_fp32},
                    )
                    for side in self.sides.values()
                ]
                accuracy += accuracy_rows(data.open(), target, *outputs)
                latency += [row for encoder in self._encoders() for row in self._timed(encoder, target)]
            else:
                get_run_logger().warning("%s is not run: %s", target, reason)
                latency += [blank_row(encoder, target, None, NOT_RUN, reason) for encoder in self._encoders()]
        for side in self.sides.values():
            discard_pictures(side.preprocess, data)
        notes = dict.fromkeys(
            f"No FP32 reference for {side.manifest.ref}: {side.no_fp32}."
            for side in self.sides.values()
            if side.no_fp32
        )
        return Remeasured(
            before=self.before.name, after=self.after.name, accuracy=accuracy, latency=latency, notes=list(notes)
        )

    def _data(self) -> DataRef:
        """The evaluation set, which must not overlap with the calibration data of either release."""
        demo = all(side.snapshot.kind == "demo" for side in self.sides.values())
        seen = sorted(set().union(*(calibrated_on(active_store(), side.manifest) for side in self.sides.values())))
        wanted = self.parameters.evaluation
        pinned: PinnedData = pin_data_task(None, 0, *wanted.source_and_count(demo=demo), seen, None, wanted.columns)
        for side in self.sides.values():
            require_classes_apart(side.snapshot, side.preprocess, pinned.evaluation)
            if self.parameters.evaluation.strict_captions:
                require_whole_captions(side.snapshot, side.preprocess, pinned.evaluation)
        return pinned.evaluation

    def _encoders(self) -> list[Encoder]:
        """The requested encoders that both releases have.

        Raises:
            ConfigError: there are none.
        """
        found = [
            encoder
            for encoder in ENCODERS
            if encoder in self.parameters.encoders and all(encoder in side.encoders for side in self.sides.values())
        ]
        if not found:
            have = "; ".join(f"{s.name}: {', '.join(s.encoders) or 'none'}" for s in self.sides.values())
            raise ConfigError(
                "the two releases have no such encoder in common",
                where=active_store().root,
                expected=f"an encoder that both have ({have})",
                fix="change encoders, precision_before or precision_after; `clipsmith show` lists what a release has",
            )
        return found

    def _why_not(self, target: str) -> str | None:
        """Why the two releases cannot be run on `target` here; None if they can."""
        for side in self.sides.values():
            if any(side.engine(encoder, target) is None for encoder in self._encoders()):
                return f"{side.name} has no engine for it"
        return backend_for(target).why_not_run(target)

    # --- accuracy ----------------------------------------------------------------------------------------------------

    def _embed(self, side: ReleaseSide, data: DataRef, encoder: Encoder, target: str) -> Embeddings:
        """Call the step with the same arguments as `optimize`, so that embeddings in the cache are reused.

        Raises:
            ExecutorsDisagree: PyTorch executes the graph, and ONNX Runtime computes something else for a sample.
        """
        precision, engine = ("fp32", None) if target == REFERENCE else (side.precision, side.engine(encoder, target))
        if target == "onnxruntime":
            engine = side.onnx(encoder)
        executor = choose_executor("auto", precision, data.samples, engine)
        where = batch_and_device(target, self.parameters.evaluation.batch, side.profile.max, executor)
        name = f"embed-{side.manifest.ref}-{encoder}-{precision}-{target}"
        seen = data.seen_by(encoder)
        if target == "onnxruntime" and executor == "torch":
            _, device, _ = where
            judged = judge_task.with_options(task_run_name=name.replace("embed-", "judge-", 1))
            judged(side.snapshot, side.preprocess, seen, encoder, precision, engine, device)
        arguments: tuple[Any, ...] = (side.snapshot, side.preprocess, seen, encoder, precision, target, engine)
        made: Embeddings = embed_task.with_options(task_run_name=name)(*arguments, *where)
        return made

    # --- latency -----------------------------------------------------------------------------------------------------

    def _timed(self, encoder: Encoder, target: str) -> list[Row]:
        profiles = [side.profile for side in self.sides.values()]
        batches = [b for b in self.parameters.latency.batches if all(p.min <= b <= p.max for p in profiles)]
        outside = [
            blank_row(encoder, target, batch, NOT_RUN, "outside the batch sizes that the engines were built for")
            for batch in self.parameters.latency.batches
            if batch not in batches
        ]
        spec = family_named(self.after.snapshot.family).encoder_spec(self.after.snapshot.config, encoder)
        engines = {name: (side.precision, side.engine(encoder, target)) for name, side in self.sides.items()}
        pair = {name: (precision, engine) for name, (precision, engine) in engines.items() if engine is not None}
        try:
            timed: list[Row] = _time(spec, target, pair, batches, self.parameters.latency) if batches else []
        except EngineMismatch as error:
            timed = [blank_row(encoder, target, None, NOT_RUN, error.what)]
        return timed + outside
