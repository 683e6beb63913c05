"""The wiring of `optimize`: the steps in the order of the pipeline, and the inputs of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from artifacts import places
from artifacts.inert import visible
from artifacts.manifest import DataSource, Encoder, Precision, Row
from artifacts.refs import ArtifactRef
from artifacts.release.gates import judge
from artifacts.report.attention import sentences
from artifacts.schema import new_row, present
from artifacts.store.store import active_store
from flows.inputs import pin_arguments, plan
from flows.parameters import OptimizeParameters
from flows.planned_steps import encoders_of, last_times, planned_steps, precisions_of, telling
from flows.step_runner import Job, StepRunner
from flows.tables import attention_rows, engine_rows, size_rows
from tasks.checkpoints.model_name import other_weights
from tasks.checkpoints.snapshot import Snapshot
from tasks.clip.base import ENCODERS
from tasks.data.picture_spool import discard_pictures
from tasks.data.pinned import DataRef, PinnedData, pin_data_task
from tasks.device.gpu import gpu_name, torch_gpu
from tasks.engines import backend_for
from tasks.engines.child import builders_stopped
from tasks.engines.onnx_runtime import cpu_name
from tasks.evaluation.executors import choose_executor, gpu_batch
from tasks.evaluation.kept_embeddings import REFERENCE
from tasks.evaluation.onnx_runs import runs_stopped
from tasks.pipeline.accuracy import Accuracy, score_task
from tasks.pipeline.attention_probe import Probed, probe_task
from tasks.pipeline.calibration import Calibration, calibrate_task
from tasks.pipeline.calibration_study import CalibrationStudy, study_task
from tasks.pipeline.captions import require_whole_captions
from tasks.pipeline.checkpoint import CheckedCheckpoint, check_recipe, check_task, keep_published_task, resolve_task
from tasks.pipeline.class_names import require_classes_apart
from tasks.pipeline.disk_space import require_space
from tasks.pipeline.embedding import Embeddings, batch_and_device, embed_task
from tasks.pipeline.engine_build import BuiltEngine, build_task, builds_at_once
from tasks.pipeline.executor_check import JudgedExecutor, judge_task
from tasks.pipeline.fp16_range import Fp16Range, range_task
from tasks.pipeline.graph_audit import GraphAudit, audit_task
from tasks.pipeline.latency import Latency, latency_task
from tasks.pipeline.onnx_export import ExportedOnnx, TracedEncoder, export_fp8_task, export_fp16_task, trace_task
from tasks.pipeline.parity import Parity, parity_task
from tasks.pipeline.publish import Draft, Piece
from tasks.pipeline.quantization import QuantizedCheckpoint, keep_amax, quantize_task
from tasks.quantizing.recipe import Algorithm, Recipe, name_of
from tasks.runs.progress import progress
from tasks.runs.steps import measured


class Drafted(NamedTuple):
    """What a run made: the draft of the release, and the digest of its plan."""

    draft: Draft
    plan: str


class _Evaluated(NamedTuple):
    """One run of the evaluation set: an encoder in a precision, what executes it, and on which device."""

    data: DataRef
    encoder: Encoder
    precision: str
    target: str
    engine: ArtifactRef | None
    batch: int
    device: str
    executor: str

    @property
    def label(self) -> dict[str, str]:
        return {"encoder": self.encoder, "precision": self.precision, "target": self.target}

    def embedding(self, snapshot: Snapshot, preprocess: ArtifactRef) -> tuple[Any, ...]:
        """The arguments of `embed_task`."""
        return (snapshot, preprocess, *self)

    def judging(self, snapshot: Snapshot, preprocess: ArtifactRef) -> Job:
        """The call of `judge_task`."""
        arguments = (snapshot, preprocess, self.data, self.encoder, self.precision, self.engine, self.device)
        return Job(arguments, {"encoder": self.encoder, "precision": self.precision})


def short_name(model: str) -> str:
    """The last part of a model's id or folder."""
    return model.rstrip("/").rpartition("/")[2]


def run_name(parameters: OptimizeParameters, revision: str | None, release: str | None = None) -> str:
    """The name of a run: its release once there is one, until then model and revision (if known); and what is made."""
    made = Path(parameters.recipe).stem if "fp8" in parameters.precisions else "fp16"
    parts = (release, made) if release else (short_name(parameters.model), revision, made)
    return visible(" ".join(part for part in parts if part))


@dataclass
class Wiring:
    """One run: calls the steps in order and collects what the release is made of."""

    parameters: OptimizeParameters
    recipe: Recipe | None
    steps: StepRunner
    planned: Callable[[str], bool] = lambda _: False
    """Called with the digest of what decides the release, as soon as that is known; says whether it is there already,
    and so passed the checks that no step makes."""
    pieces: list[Piece] = field(default_factory=list)
    parity: tuple[Row, ...] = ()
    attention: list[Row] = field(default_factory=list)
    executors: list[Row] = field(default_factory=list)
    studies: list[CalibrationStudy] = field(default_factory=list)
    unusable: dict[str, tuple[int, int]] = field(default_factory=dict)
    faint: dict[str, str] = field(default_factory=dict)

    def run(self) -> Drafted:
        """checkpoint -> calibration -> FP8 -> ONNX -> audit -> engines -> accuracy and latency -> a draft."""
        snapshot, data = self._inputs()
        decided = plan(self.parameters, self.recipe, snapshot, data)
        made_before = self.planned(decided)
        preprocess = self._checkpoint(snapshot, None if made_before else data)
        skeletons = self._trace(snapshot)
        self._settle_attention(skeletons)
        amax = self._quantize(snapshot, preprocess, data)
        self._check_range(snapshot, preprocess, data.evaluation)
        exports, audits = self._graphs(snapshot, skeletons, amax)
        engines = self._engines(exports)
        accuracy = self._accuracy(snapshot, preprocess, data.evaluation, exports, engines)
        latencies = self._latency(snapshot, engines)
        draft = self._draft(snapshot, data, self._tables(audits, engines, accuracy, latencies))
        return Drafted(draft, decided)

    # --- steps ---------------------------------------------------------------------------------------------

    def _inputs(self) -> tuple[Snapshot, PinnedData]:
        """Resolve the model and the data to exact contents; this runs every time."""
        with measured() as meter:
            asked = self.parameters
            snapshot: Snapshot = self.steps.plain(
                resolve_task, asked.model, asked.revision, asked.name, asked.chosen_size
            )
            arguments = pin_arguments(self.parameters, self.recipe, snapshot, active_store())
            data: PinnedData = self.steps.plain(pin_data_task, *arguments)
        self.steps.timed("resolve", meter.stats)
        self.steps.say(f"resolve: {snapshot.model}, revision {snapshot.revision[:12]}")
        for ref in filter(None, (data.calibration, data.evaluation)):
            for note in ref.notes:
                self.steps.warn(f"{ref.role} data: {note}")
        if others := other_weights(snapshot, active_store()):
            self.steps.warn(others)
        if snapshot.image_size is not None:
            height, width = snapshot.image_size
            self.steps.say(f"image size: {height} x {width} for every picture; those of another shape are squashed")
        self.steps.name_run(run_name(self.parameters, snapshot.revision[:12]))
        steps = planned_steps(
            self.parameters,
            data.evaluation.samples,
            brings_amax=snapshot.calibrated,
            brings_state=snapshot.carries_state,
        )
        self.steps.expect(steps, last_times(active_store(), snapshot.model))
        return snapshot, data

    def _checkpoint(self, snapshot: Snapshot, data: PinnedData | None) -> ArtifactRef:
        """Check the checkpoint and what a run of it needs, and `data` if it has to be; return the reference of the
        checkpoint's preprocessing."""
        require_space(active_store().root, snapshot, self._precisions(), self.parameters.targets)
        checked: CheckedCheckpoint = self.steps.step("check", check_task, snapshot)
        for note in checked.notes:
            self.steps.say(f"checkpoint: {note}")
        self._keep(checked.preprocess, places.PREPROCESS)
        parity: Parity = self.steps.step("parity", parity_task, snapshot, checked.preprocess)
        self.steps.say(f"parity: {parity.words()}")
        self._keep(parity.table, places.evidence("parity"))
        self.parity = parity.rows
        if data is not None:
            self._check_texts(snapshot, checked.preprocess, data)
        return checked.preprocess

    def _check_texts(self, snapshot: Snapshot, preprocess: ArtifactRef, data: PinnedData) -> None:
        require_classes_apart(snapshot, preprocess, data.evaluation)
        for ref, strict in (
            (data.calibration, self.parameters.calibration.strict_captions),
            (data.evaluation, self.parameters.evaluation.strict_captions),
        ):
            if ref is not None and strict:
                require_whole_captions(snapshot, preprocess, ref)

    def _trace(self, snapshot: Snapshot) -> dict[Encoder, ArtifactRef]:
        """The object that holds the skeleton of each encoder."""
        skeletons: dict[Encoder, ArtifactRef] = {}
        for encoder in self._encoders():
            traced: TracedEncoder = self.steps.step(
                "trace", trace_task, snapshot.family, snapshot.stored_config, encoder, encoder=encoder
            )
            skeletons[encoder] = traced.skeleton
        return skeletons

    def _settle_attention(self, skeletons: dict[Encoder, ArtifactRef]) -> None:
        """If the recipe asks, leave the attention of an encoder in FP16 unless every builder that tells fuses it."""
        if self.recipe is None or self.recipe.attention is None:
            return
        left: list[str] = []
        for encoder, skeleton in skeletons.items():
            found: list[Probed] = []
            for target in telling(self.parameters.targets):
                device = backend_for(target).built_for(target)
                arguments = (skeleton, encoder, self.recipe, target, self.parameters.profile, device)
                found.append(self.steps.step("probe", probe_task, *arguments, encoder=encoder, target=target))
            apart = [probed for probed in found if probed.fused is False]
            left += apart[0].modules if apart else ()
            # A builder is not asked about what the recipe leaves in FP16 anyway.
            fp16 = bool(apart) or any(probed.builder is None for probed in found)
            self.attention += attention_rows(encoder, self.parameters.targets, found, "fp16" if fp16 else "fp8")
        self.recipe = self.recipe.without_attention(left)
        for sentence in sentences(self.attention):
            self.steps.say(f"recipe {self.recipe.name}, {sentence}")

    def _quantize(self, snapshot: Snapshot, preprocess: ArtifactRef, data: PinnedData) -> dict[Encoder, ArtifactRef]:
        """The object that holds the `amax.parquet` of each encoder."""
        if self.recipe is None:
            return {}
        if snapshot.calibrated:
            return self._published(snapshot, preprocess)
        tables: dict[Encoder, ArtifactRef] = {}
        for encoder in self._encoders():
            batch = self._calibration_batch()
            algorithm = self._algorithm(snapshot, preprocess, data.calibration, encoder)
            recipe = self.recipe.calibrated_by(algorithm)
            calibration: Calibration = self.steps.step(
                "calibrate",
                calibrate_task,
                *(snapshot, preprocess, data.calibration, recipe, encoder, batch, gpu_name() or "cpu"),
                encoder=encoder,
            )
            tables[encoder] = calibration.table
            self.steps.say(f"calibrate {encoder}: {calibration.speed()}")
            if calibration.zeros:
                count, first = len(calibration.zeros), calibration.zeros[0]
                self.steps.say(f"calibrate {encoder}: {count} quantizers see zeros alone, scale 1, such as {first}")
            self._note(data.calibration, calibration.skipped, calibration.truncated)
            self._note_faint(data.calibration, calibration.faint, calibration.samples)
            self._keep(calibration.table, places.evidence("calibration", encoder), encoder)
        quantized: QuantizedCheckpoint = self.steps.step(
            "quantize", quantize_task, snapshot, preprocess, self.recipe, tables
        )
        self._keep(quantized.checkpoint, places.CHECKPOINT)
        for module in quantized.beyond:
            self.steps.say(f"FP16 in ModelOpt's own checkpoint, FP8 in the graph: {module}")
        return tables

    def _calibration_batch(self) -> int:
        """Samples per calibration batch: as configured, else what is efficient on this machine."""
        settings = self.parameters.calibration
        return settings.batch or gpu_batch(settings.batch_size)

    def _algorithm(
        self, snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef | None, encoder: Encoder
    ) -> Algorithm:
        """How an encoder is calibrated: as configured, or as a study on held-out samples decides."""
        settings = self.parameters.calibration
        candidates = settings.of(encoder).candidates()
        if len(candidates) == 1 and not settings.sufficiency:
            return candidates[0]
        found: CalibrationStudy = self.steps.step(
            "study",
            study_task,
            *(snapshot, preprocess, data, self.recipe, encoder, self._calibration_batch(), candidates),
            gpu_name() or "cpu",
            encoder=encoder,
        )
        self._keep(found.table, places.evidence("calibration-study", encoder), encoder)
        self.studies.append(found)
        self.steps.say(f"calibrate {encoder} by {found.method}")
        return next(one for one in candidates if name_of(one) == found.method)

    def _published(self, snapshot: Snapshot, preprocess: ArtifactRef) -> dict[Encoder, ArtifactRef]:
        """For a checkpoint with its own amax: nothing is calibrated; its ModelOpt state is kept only if it is ours."""
        assert self.recipe is not None
        check_recipe(snapshot, self.recipe)
        amax = keep_amax(snapshot)
        if snapshot.carries_state:
            checkpoint: ArtifactRef = self.steps.plain(keep_published_task, snapshot)
        else:
            tables = dict.fromkeys(self._encoders(), amax)
            rebuilt: QuantizedCheckpoint = self.steps.step(
                "restore", quantize_task, snapshot, preprocess, self.recipe, tables
            )
            checkpoint = rebuilt.checkpoint
        self._keep(checkpoint, places.CHECKPOINT)
        return dict.fromkeys(self._encoders(), amax)

    def _check_range(self, snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef) -> None:
        """Refuse a model whose FP16 graphs would overflow: comparisons with them would mean nothing."""
        for encoder in self._encoders():
            found: Fp16Range = self.steps.step(
                "fp16-range", range_task, snapshot, preprocess, data, encoder, gpu_name() or "cpu", encoder=encoder
            )
            self.steps.say(f"largest FP16 value: {found.largest:.4g} of 65504 in {found.module or encoder}")
            self._keep(found.table, places.evidence("fp16-range", encoder), encoder)

    def _graphs(
        self, snapshot: Snapshot, skeletons: dict[Encoder, ArtifactRef], tables: dict[Encoder, ArtifactRef]
    ) -> tuple[list[ExportedOnnx], list[GraphAudit]]:
        exports: list[ExportedOnnx] = []
        audits: list[GraphAudit] = []
        for encoder, skeleton in skeletons.items():
            for precision in self._precisions():
                label = {"encoder": encoder, "precision": precision}
                if precision == "fp16":
                    exported = self.steps.step("export", export_fp16_task, snapshot, skeleton, encoder, **label)
                else:
                    arguments = (snapshot, skeleton, encoder, self.recipe, tables[encoder])
                    exported = self.steps.step("export", export_fp8_task, *arguments, **label)
                exports.append(exported)
                self._keep(exported.onnx, encoder, encoder, precision)
                recipe = self.recipe if precision == "fp8" else None  # FP16 does not depend on it
                audits.append(self.steps.step("audit", audit_task, exported.onnx, skeleton, precision, recipe, **label))
        return exports, audits

    def _engines(self, exports: list[ExportedOnnx]) -> list[BuiltEngine]:
        """Build the engines, each in a process of its own, as many at once as cores and memory allow."""
        engines: list[BuiltEngine] = []
        jobs = [self._build(export, target) for export in exports for target in self.parameters.targets]
        at_once = builds_at_once([export.onnx.size for export in exports])
        # Closed as soon as a build fails: else the exception would keep the generator, and so the builds, alive.
        with (
            progress("clipsmith-progress-build", len(jobs), "engine", "build") as built_so_far,
            closing(self.steps.side_by_side("build", build_task, jobs, at_once, builders_stopped)) as outputs,
        ):
            for built in outputs:
                engines.append(built)
                of = (built.encoder, built.precision, built.target)
                self._keep(built.engine, built.encoder, *of)
                self._keep(built.log, places.evidence("build", *of), *of)
                built_so_far(1)
        return engines

    def _build(self, export: ExportedOnnx, target: str) -> Job:
        device = backend_for(target).built_for(target)
        arguments = (export.onnx, export.encoder, export.precision, target, self.parameters.profile, device)
        return Job(arguments, {"encoder": export.encoder, "precision": export.precision, "target": target})

    def _accuracy(
        self,
        snapshot: Snapshot,
        preprocess: ArtifactRef,
        data: DataRef,
        exports: list[ExportedOnnx],
        engines: list[BuiltEngine],
    ) -> Accuracy:
        """Embed with FP32 in PyTorch, the ONNX files in ONNX Runtime, and every other engine that this machine runs."""
        asked: list[tuple[Encoder, str, str, ArtifactRef | None]] = [(e, "fp32", REFERENCE, None) for e in ENCODERS]
        asked += [(e.encoder, e.precision, "onnxruntime", e.onnx) for e in exports]
        asked += [
            (e.encoder, e.precision, e.target, e.engine)
            for e in engines
            if e.target != "onnxruntime" and backend_for(e.target).why_not_run(e.target) is None
        ]
        runs = [self._evaluated(data, *one) for one in asked]
        judged = [run for run in runs if run.executor == "torch" and run.target == "onnxruntime"]
        embeddings: list[Embeddings] = []
        with self.steps.beside(
            "judge", judge_task, [run.judging(snapshot, preprocess) for run in judged], runs_stopped
        ) as verdicts:
            if torch_gpu() is None:  # both would compute on the processor, and need the memory of both
                self._judged(runs, list(verdicts))
            for run in runs:
                made: Embeddings = self.steps.step(
                    "embed", embed_task, *run.embedding(snapshot, preprocess), **run.label
                )
                embeddings.append(made)
                if run.target == REFERENCE:
                    self._note(data, made.skipped, made.truncated)
                    self._note_faint(data, made.faint, made.rows)
                folder = places.evidence("embeddings", run.encoder, run.precision, run.target)
                self._keep(made.outputs, folder, run.encoder, run.precision, run.target)
            if torch_gpu() is not None:
                self._judged(runs, list(verdicts))
        discard_pictures(preprocess, data)
        accuracy: Accuracy = self.steps.step("score", score_task, data, embeddings)
        self._keep(accuracy.cosines, places.EVIDENCE)
        self._keep(accuracy.details, places.EVIDENCE)
        self._keep(accuracy.evaluation, places.EVALUATION)
        return accuracy

    def _evaluated(
        self, data: DataRef, encoder: Encoder, precision: str, target: str, engine: ArtifactRef | None
    ) -> _Evaluated:
        executor = choose_executor(self.parameters.evaluation.executor, precision, data.samples, engine)
        where = batch_and_device(target, self.parameters.evaluation.batch, self.parameters.profile.max, executor)
        return _Evaluated(data.seen_by(encoder), encoder, precision, target, engine, *where)

    def _judged(self, runs: list[_Evaluated], verdicts: list[JudgedExecutor]) -> None:
        """Say what ONNX Runtime, which computed a sample of it, found of what PyTorch executes in its place; and what
        runs on a GPU."""
        found = {(verdict.encoder, verdict.precision): verdict for verdict in verdicts}
        for run in runs:
            encoder, precision = run.encoder, run.precision
            if run.executor != "torch" or run.target not in (REFERENCE, "onnxruntime"):
                continue
            row = new_row("executors", encoder=encoder, precision=precision, executor=REFERENCE, device=run.device)
            if run.target != REFERENCE:
                judged = found[encoder, precision]
                self._keep(judged.table, places.evidence("executor", encoder, precision), encoder, precision)
                self.steps.say(
                    f"judge {encoder} {precision}: on {judged.samples} samples PyTorch and ONNX Runtime agree to "
                    f"{judged.snr_db:.0f} dB or better in every layer, embeddings to cosine {judged.cosine_min:.4f}"
                )
                row |= {
                    "executor": run.executor,
                    "judged": judged.samples,
                    "layer": judged.layer,
                    "snr_db": judged.snr_db,
                    "cosine_min": judged.cosine_min,
                }
            self.executors.append(row)

    def _latency(self, snapshot: Snapshot, engines: list[BuiltEngine]) -> list[Latency]:
        found: list[Latency] = []
        for encoder in self._encoders():
            for target in self.parameters.targets:
                mine = {e.precision: e.engine for e in engines if (e.encoder, e.target) == (encoder, target)}
                device = backend_for(target).device()
                arguments = (snapshot, encoder, target, mine, self.parameters.latency, device)
                latency: Latency = self.steps.step("latency", latency_task, *arguments, encoder=encoder, target=target)
                found.append(latency)
                self._keep(latency.samples, places.evidence("latency", encoder, target), encoder, None, target)
        return found

    # --- the draft -----------------------------------------------------------------------------------------

    def _tables(
        self, audits: list[GraphAudit], engines: list[BuiltEngine], accuracy: Accuracy, latencies: list[Latency]
    ) -> dict[str, list[Row]]:
        rows = {
            "parity": list(self.parity),
            "encoders": list({audit.encoder: audit.encoder_row for audit in audits}.values()),
            "sizes": size_rows(audits, engines),
            "coverage": [row for audit in audits for row in audit.coverage],
            "attention": self.attention,
            "engines": engine_rows(audits, engines),
            "accuracy": list(accuracy.rows),
            "executors": self.executors,
            "latency": [row for latency in latencies for row in latency.rows],
            "calibration": [row for study in self.studies for row in study.comparison],
            "sufficiency": [row for study in self.studies for row in study.sufficiency],
            "stages": self.steps.stages,
        }
        return {name: rows[name] for name in present(rows)}

    def _draft(self, snapshot: Snapshot, data: PinnedData, rows: dict[str, list[Row]]) -> Draft:
        return Draft(
            snapshot=snapshot,
            calibration=snapshot.calibration if data.calibration is None else self._source(data.calibration),
            evaluation=self._source(data.evaluation),
            recipe=self.recipe,
            parameters=self.parameters.model_dump(exclude={"step_minutes", "store"})
            | {"image_size": None if snapshot.image_size is None else list(snapshot.image_size)},
            device={"cpu": cpu_name(), "cores": os.cpu_count()},
            pieces=tuple(self.pieces),
            tables={name: tuple(table) for name, table in rows.items()},
            gates=judge(self.parameters.gates.gates(), rows),
            timings=tuple(self.steps.timings),
        )

    # --- helpers -------------------------------------------------------------------------------------------

    def _note(self, data: DataRef | None, skipped: int, truncated: int) -> None:
        """Record and log how many samples of a set were skipped or truncated."""
        if data is None:
            return
        before = self.unusable.get(data.digest, (0, 0))
        self.unusable[data.digest] = (max(before[0], skipped), max(before[1], truncated))
        for count, what in ((skipped, "cannot be decoded"), (truncated, "have texts longer than the context")):
            if count:
                self.steps.warn(f"{count} {data.role} samples {what}")

    def _note_faint(self, data: DataRef | None, faint: int, pictures: int) -> None:
        """Record and log how many pictures of a set have next to no contrast."""
        if data is not None and faint:
            self.faint[data.digest] = (
                f"{faint:,} of {pictures:,} pictures have next to no contrast: they use a sixteenth of the levels of "
                "brightness at most, as 12 bits that were stored as 16 do"
            )
            self.steps.warn(f"{data.role} data: {self.faint[data.digest]}")

    def _source(self, data: DataRef) -> DataSource:
        skipped, truncated = self.unusable.get(data.digest, (0, 0))
        return DataSource(
            source=f"{data.spec} ({data.role})",
            digest=data.digest,
            samples=data.samples,
            skipped=skipped,
            truncated=truncated,
            notes=(*data.notes, *filter(None, [self.faint.get(data.digest)])),
        )

    def _encoders(self) -> list[Encoder]:
        return encoders_of(self.parameters)

    def _precisions(self) -> list[Precision]:
        return precisions_of(self.parameters)

    def _keep(
        self,
        ref: ArtifactRef,
        folder: str,
        encoder: Encoder | None = None,
        precision: str | None = None,
        target: str | None = None,
    ) -> None:
        self.pieces.append(Piece(object=ref, folder=folder, encoder=encoder, precision=precision, target=target))
