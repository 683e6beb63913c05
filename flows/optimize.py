"""The main flow: one CLIP checkpoint in, one compared and published release out."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from prefect.task_engine import TaskRunTimeoutError

from artifacts.errors import GateFailed, StepTimedOut
from artifacts.manifest import DataSource, Encoder, Row
from artifacts.refs import ArtifactRef
from artifacts.release.gates import judge
from artifacts.report.gate_words import sentence, tally
from artifacts.schema import present
from artifacts.store.store import Store, activate, active_store
from flows.inputs import pin_arguments, plan, recipe_of
from flows.known_plans import KnownPlans
from flows.parameters import DEMO, OptimizeParameters
from flows.side_by_side import side_by_side
from flows.tables import coverage_rows, encoder_rows, size_rows, stage_row
from tasks.checkpoints.snapshot import Snapshot
from tasks.clip import ENCODERS
from tasks.data.pinned import DataRef, PinnedData, pin_data_task
from tasks.engines import backend_for
from tasks.engines.base import gpu_name
from tasks.engines.child import builders_stopped
from tasks.engines.onnx_runtime import cpu_name
from tasks.graph.skeleton import Precision
from tasks.pipeline.accuracy import Accuracy, score_task
from tasks.pipeline.calibration import Calibration, calibrate_task
from tasks.pipeline.calibration_study import CalibrationStudy, study_task
from tasks.pipeline.captions import require_whole_captions
from tasks.pipeline.checkpoint import CheckedCheckpoint, check_recipe, check_task, keep_published_task, resolve_task
from tasks.pipeline.disk_space import require_space
from tasks.pipeline.embedding import REFERENCE, Embeddings, batch_and_device, embed_task
from tasks.pipeline.engine_build import BuiltEngine, build_task, builds_at_once, require_target
from tasks.pipeline.fp16_range import Fp16Range, range_task
from tasks.pipeline.graph_audit import GraphAudit, audit_task
from tasks.pipeline.latency import Latency, latency_task
from tasks.pipeline.onnx_export import ExportedOnnx, TracedEncoder, export_fp8_task, export_fp16_task, trace_task
from tasks.pipeline.publish import Draft, Piece, Published, publish_task
from tasks.pipeline.quantization import QuantizedCheckpoint, keep_amax, quantize_task
from tasks.prefect_ui.release_artifacts import show_release_task, show_tables_task
from tasks.prefect_ui.tags import name_run, tag_run
from tasks.quantizing.recipe import Algorithm, Recipe, name_of
from tasks.runs.progress import progress
from tasks.runs.step_limit import step_limit, step_limit_s
from tasks.runs.steps import StepOutput, measured

_MINUTE_S = 60


def _short_name(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2]


def _run_name() -> str:
    """Until the revision is looked up, what was asked for."""
    parameters = flow_run.parameters["parameters"]
    return _name(parameters, parameters.revision)


def _name(parameters: OptimizeParameters, revision: str | None) -> str:
    parts = (_short_name(parameters.model), revision, parameters.recipe and Path(parameters.recipe).stem)
    return " ".join(part for part in parts if part)


@flow(name="optimize", flow_run_name=_run_name, persist_result=False)
def optimize(parameters: OptimizeParameters = DEMO) -> Published:
    """Quantize a CLIP checkpoint to FP8, build and compare its engines, and publish a release.

    A release that fails a gate is published as rejected, and the run fails.

    Args:
        parameters: The model, what to calibrate and evaluate on, and what to build.
    """
    tag_run(_short_name(parameters.model), parameters.targets)
    for target in parameters.targets:
        require_target(target, *parameters.precisions)
    recipe = recipe_of(parameters)
    with activate(Store.open(parameters.store)), step_limit(parameters.step_minutes * _MINUTE_S):
        return _Run(parameters, recipe).run()


def _require_accepted(draft: Draft, published: Published) -> None:
    """Log what the gates found.

    Raises:
        GateFailed: the release, published by now, is rejected.
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


@dataclass
class _Run:
    """One run: calls the steps in order and collects what the release is made of."""

    parameters: OptimizeParameters
    recipe: Recipe | None
    pieces: list[Piece] = field(default_factory=list)
    stages: list[Row] = field(default_factory=list)
    timings: list[Row] = field(default_factory=list)
    studies: list[CalibrationStudy] = field(default_factory=list)
    unusable: dict[str, tuple[int, int]] = field(default_factory=dict)

    def run(self) -> Published:
        snapshot, data = self._inputs()
        require_space(active_store().root, snapshot, self._precisions(), self.parameters.targets)
        checked: CheckedCheckpoint = self._step("check", check_task, snapshot)
        self._keep(checked.preprocess, "preprocess")
        for ref, strict in (
            (data.calibration, self.parameters.calibration.strict_captions),
            (data.evaluation, self.parameters.evaluation.strict_captions),
        ):
            if ref is not None and strict:
                require_whole_captions(snapshot, checked.preprocess, ref)
        tables = self._quantize(snapshot, checked.preprocess, data)
        self._check_range(snapshot, checked.preprocess, data.evaluation)
        exports, audits = self._graphs(snapshot, tables)
        engines = self._engines(exports)
        accuracy = self._accuracy(snapshot, checked.preprocess, data.evaluation, exports, engines)
        latencies = self._latency(snapshot, engines)
        rows = {
            "encoders": encoder_rows(audits),
            "sizes": size_rows(audits, engines),
            "coverage": coverage_rows(audits),
            "accuracy": list(accuracy.rows),
            "latency": [row for latency in latencies for row in latency.rows],
            "calibration": [row for study in self.studies for row in study.comparison],
            "sufficiency": [row for study in self.studies for row in study.sufficiency],
            "stages": self.stages,
        }
        rows = {name: rows[name] for name in present(rows)}
        draft = Draft(
            snapshot=snapshot,
            calibration=snapshot.calibration if data.calibration is None else self._source(data.calibration),
            evaluation=self._source(data.evaluation),
            recipe=self.recipe,
            parameters=self.parameters.model_dump(exclude={"step_minutes", "store"}),
            device={"cpu": cpu_name(), "cores": os.cpu_count()},
            pieces=tuple(self.pieces),
            tables={name: tuple(table) for name, table in rows.items()},
            gates=judge(self.parameters.gates.gates(), rows),
            timings=tuple(self.timings),
        )
        show_tables_task(draft)
        published: Published = publish_task(draft)
        made = plan(self.parameters, self.recipe, snapshot, data)
        KnownPlans(active_store()).remember(made, flow_run.id, published)
        # Not a reason to fail: the release is published.
        show_release_task(published.ref, return_state=True)
        _require_accepted(draft, published)
        return published

    # --- steps ---------------------------------------------------------------------------------------------

    def _inputs(self) -> tuple[Snapshot, PinnedData]:
        """What the names mean today; runs every time."""
        with measured() as meter:
            snapshot: Snapshot = resolve_task(self.parameters.model, self.parameters.revision)
            arguments = pin_arguments(self.parameters, self.recipe, snapshot, active_store())
            data: PinnedData = pin_data_task(*arguments)
        self.timings.append(stage_row("resolve", meter.stats))
        get_run_logger().info("resolve: %s, revision %s", snapshot.model, snapshot.revision[:12])
        name_run(_name(self.parameters, snapshot.revision[:12]))
        return snapshot, data

    def _quantize(self, snapshot: Snapshot, preprocess: ArtifactRef, data: PinnedData) -> dict[Encoder, ArtifactRef]:
        """Per encoder, the object that holds its `amax.parquet`."""
        if self.recipe is None:
            return {}
        if snapshot.calibrated:
            return self._published(snapshot, preprocess)
        tables: dict[Encoder, ArtifactRef] = {}
        for encoder in self._encoders():
            batch = self.parameters.calibration.batch_size
            algorithm = self._algorithm(snapshot, preprocess, data.calibration, encoder)
            recipe = self.recipe.calibrated_by(algorithm)
            calibration: Calibration = self._step(
                "calibrate",
                calibrate_task,
                *(snapshot, preprocess, data.calibration, recipe, encoder, batch, gpu_name() or "cpu"),
                encoder=encoder,
            )
            tables[encoder] = calibration.table
            get_run_logger().info("calibrate %s: %s", encoder, calibration.speed())
            self._note(data.calibration, calibration.skipped, calibration.truncated)
            self._keep(calibration.table, f"evidence/calibration-{encoder}", encoder)
        quantized: QuantizedCheckpoint = self._step(
            "quantize", quantize_task, snapshot, preprocess, self.recipe, tables
        )
        self._keep(quantized.checkpoint, "checkpoint")
        for module in quantized.beyond:
            get_run_logger().info("FP16 in ModelOpt's own checkpoint, FP8 in the graph: %s", module)
        return tables

    def _algorithm(
        self, snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef | None, encoder: Encoder
    ) -> Algorithm:
        """How an encoder is calibrated: as asked for, or what a study on held-out samples finds."""
        settings = self.parameters.calibration
        candidates = settings.of(encoder).candidates()
        if len(candidates) == 1 and not settings.sufficiency:
            return candidates[0]
        found: CalibrationStudy = self._step(
            "study",
            study_task,
            *(snapshot, preprocess, data, self.recipe, encoder, settings.batch_size, candidates, gpu_name() or "cpu"),
            encoder=encoder,
        )
        self._keep(found.table, f"evidence/calibration-study-{encoder}", encoder)
        self.studies.append(found)
        get_run_logger().info("calibrate %s by %s", encoder, found.method)
        return next(one for one in candidates if name_of(one) == found.method)

    def _published(self, snapshot: Snapshot, preprocess: ArtifactRef) -> dict[Encoder, ArtifactRef]:
        """A checkpoint that brings its amax: nothing is calibrated; its ModelOpt state is passed on only if ours."""
        assert self.recipe is not None
        check_recipe(snapshot, self.recipe)
        amax = keep_amax(snapshot)
        if snapshot.carries_state:
            checkpoint: ArtifactRef = keep_published_task(snapshot)
        else:
            tables = dict.fromkeys(self._encoders(), amax)
            rebuilt: QuantizedCheckpoint = self._step(
                "restore", quantize_task, snapshot, preprocess, self.recipe, tables
            )
            checkpoint = rebuilt.checkpoint
        self._keep(checkpoint, "checkpoint")
        return dict.fromkeys(self._encoders(), amax)

    def _check_range(self, snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef) -> None:
        """Refuse a model whose FP16 graphs would overflow: nothing could be compared with them."""
        for encoder in self._encoders():
            found: Fp16Range = self._step(
                "fp16-range", range_task, snapshot, preprocess, data, encoder, encoder=encoder
            )
            get_run_logger().info("largest FP16 value: %.4g of 65504 in %s", found.largest, found.module or encoder)
            self._keep(found.table, f"evidence/fp16-range-{encoder}", encoder)

    def _graphs(
        self, snapshot: Snapshot, tables: dict[Encoder, ArtifactRef]
    ) -> tuple[list[ExportedOnnx], list[GraphAudit]]:
        exports: list[ExportedOnnx] = []
        audits: list[GraphAudit] = []
        for encoder in self._encoders():
            traced: TracedEncoder = self._step(
                "trace", trace_task, snapshot.family, snapshot.stored_config, encoder, encoder=encoder
            )
            for precision in self._precisions():
                label = {"encoder": encoder, "precision": precision}
                if precision == "fp16":
                    exported = self._step("export", export_fp16_task, snapshot, traced.skeleton, encoder, **label)
                else:
                    arguments = (snapshot, traced.skeleton, encoder, self.recipe, tables[encoder])
                    exported = self._step("export", export_fp8_task, *arguments, **label)
                exports.append(exported)
                self._keep(exported.onnx, encoder, encoder, precision)
                recipe = self.recipe if precision == "fp8" else None  # FP16 does not depend on it
                audits.append(
                    self._step("audit", audit_task, exported.onnx, traced.skeleton, precision, recipe, **label)
                )
        return exports, audits

    def _engines(self, exports: list[ExportedOnnx]) -> list[BuiltEngine]:
        """Each in a process of its own, as many at once as there are cores and memory for."""
        engines: list[BuiltEngine] = []
        wanted = [(export, target) for export in exports for target in self.parameters.targets]
        labels = [{"encoder": e.encoder, "precision": e.precision, "target": target} for e, target in wanted]

        def build(number: int) -> Any:
            export, target = wanted[number]
            device = backend_for(target).built_for(target)
            arguments = (export.onnx, export.encoder, export.precision, target, self.parameters.profile, device)
            return self._call("build", build_task, arguments, labels[number])

        at_once = builds_at_once([export.onnx.size for export in exports])
        # Closed at once when a build has failed: the exception would keep the generator, and so the builds, alive.
        with (
            progress("clipsmith-progress-build", len(wanted), "engine", "build") as built_so_far,
            closing(side_by_side(build, range(len(wanted)), at_once, builders_stopped)) as states,
        ):
            for label, state in zip(labels, states, strict=True):
                built: BuiltEngine = self._output("build", state, label)
                engines.append(built)
                of = (built.encoder, built.precision, built.target)
                self._keep(built.engine, built.encoder, *of)
                self._keep(built.log, f"evidence/build-{'-'.join(of)}", *of)
                built_so_far(1)
        return engines

    def _accuracy(
        self,
        snapshot: Snapshot,
        preprocess: ArtifactRef,
        data: DataRef,
        exports: list[ExportedOnnx],
        engines: list[BuiltEngine],
    ) -> Accuracy:
        """FP32 PyTorch, then the ONNX files in ONNX Runtime, then every other engine that this machine can run."""
        jobs: list[tuple[Encoder, str, str, ArtifactRef | None]] = [(e, "fp32", REFERENCE, None) for e in ENCODERS]
        jobs += [(e.encoder, e.precision, "onnxruntime", e.onnx) for e in exports]
        jobs += [
            (e.encoder, e.precision, e.target, e.engine)
            for e in engines
            if e.target != "onnxruntime" and backend_for(e.target).why_not_run(e.target) is None
        ]
        embeddings: list[Embeddings] = []
        for encoder, precision, target, engine in jobs:
            label = {"encoder": encoder, "precision": precision, "target": target}
            where = batch_and_device(target, self.parameters.evaluation.batch, self.parameters.profile.max)
            seen = data.seen_by(encoder)
            arguments = (snapshot, preprocess, seen, encoder, precision, target, engine, *where)
            made: Embeddings = self._step("embed", embed_task, *arguments, **label)
            embeddings.append(made)
            if target == REFERENCE:
                self._note(data, made.skipped, made.truncated)
            self._keep(made.outputs, f"evidence/embeddings-{encoder}-{precision}-{target}", encoder, precision, target)
        accuracy: Accuracy = self._step("score", score_task, data, embeddings)
        self._keep(accuracy.cosines, "evidence")
        self._keep(accuracy.details, "evidence")
        self._keep(accuracy.evaluation, "evidence/evaluation")
        return accuracy

    def _latency(self, snapshot: Snapshot, engines: list[BuiltEngine]) -> list[Latency]:
        latencies: list[Latency] = []
        for encoder in self._encoders():
            for target in self.parameters.targets:
                mine = {e.precision: e.engine for e in engines if (e.encoder, e.target) == (encoder, target)}
                arguments = (snapshot, encoder, target, mine, self.parameters.latency, backend_for(target).device())
                measured_: Latency = self._step("latency", latency_task, *arguments, encoder=encoder, target=target)
                latencies.append(measured_)
                self._keep(measured_.samples, f"evidence/latency-{encoder}-{target}", encoder, None, target)
        return latencies

    # --- helpers -------------------------------------------------------------------------------------------

    def _note(self, data: DataRef | None, skipped: int, truncated: int) -> None:
        """Remember, and say, how many samples of a set could not be used whole."""
        if data is None:
            return
        before = self.unusable.get(data.digest, (0, 0))
        self.unusable[data.digest] = (max(before[0], skipped), max(before[1], truncated))
        for count, what in ((skipped, "cannot be decoded"), (truncated, "have texts longer than the context")):
            if count:
                get_run_logger().warning("%d %s samples %s", count, data.role, what)

    def _source(self, data: DataRef) -> DataSource:
        skipped, truncated = self.unusable.get(data.digest, (0, 0))
        return DataSource(
            source=f"{data.spec} ({data.role})",
            digest=data.digest,
            samples=data.samples,
            skipped=skipped,
            truncated=truncated,
        )

    def _encoders(self) -> list[Encoder]:
        return [encoder for encoder in ENCODERS if encoder in self.parameters.encoders]

    def _precisions(self) -> list[Precision]:
        precisions: tuple[Precision, ...] = ("fp16", "fp8")
        return [precision for precision in precisions if precision in self.parameters.precisions]

    def _step(self, name: str, step: Any, *arguments: Any, **label: str) -> Any:
        """Call a step, log it, and keep what it cost."""
        return self._output(name, self._call(name, step, arguments, label), label)

    def _call(self, name: str, step: Any, arguments: tuple[Any, ...], label: dict[str, str]) -> Any:
        """The state that a step ends in."""
        # Prefect can end a step at its limit in the main thread alone; builds, in others, end their own processes.
        in_main = threading.current_thread() is threading.main_thread()
        named = step.with_options(
            task_run_name="-".join([name, *label.values()]),
            timeout_seconds=step_limit_s() if in_main else None,
        )
        return named(*arguments, return_state=True)

    def _output(self, name: str, state: Any, label: dict[str, str]) -> Any:
        """What a step returned, once it is logged and what it cost is kept.

        Raises:
            StepTimedOut, or what the step raised.
        """
        try:
            output: StepOutput = state.result()
        except TaskRunTimeoutError as error:
            raise StepTimedOut(
                f"the step {' '.join([name, *label.values()])} was not done after "
                f"{self.parameters.step_minutes} min, and was ended",
                fix="raise `step_minutes`; what was done before is found in the cache",
            ) from error
        self.stages.append(stage_row(name, output.stats, **label))
        get_run_logger().info(
            "%-34s %8.2f s %7.0f MiB%s",
            " ".join([name, *label.values()]),
            output.stats.wall_s,
            output.stats.peak_rss_mb,
            "  (cached)" if state.name == "Cached" else "",
        )
        return output

    def _keep(
        self,
        ref: ArtifactRef,
        folder: str,
        encoder: Encoder | None = None,
        precision: str | None = None,
        target: str | None = None,
    ) -> None:
        self.pieces.append(Piece(object=ref, folder=folder, encoder=encoder, precision=precision, target=target))
