"""Step 7b: FP32, FP16 and FP8 on the same samples: how close, and what it does to the task."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from artifacts import places
from artifacts.errors import NumericError, SameAsBaseline
from artifacts.manifest import Row
from artifacts.refs import ArtifactRef
from artifacts.store.store import active_store
from tasks.data import Dataset
from tasks.data.pinned import DataRef
from tasks.evaluation.embedding_table import EmbeddingTable, Key
from tasks.evaluation.kept_embeddings import REFERENCE, Embedded, load_embedded
from tasks.evaluation.metrics import cosine
from tasks.evaluation.question_details import alike_names, changed_rows, class_rows
from tasks.evaluation.scoring import fidelity_rows
from tasks.pipeline.embedding import Embeddings
from tasks.runs.steps import StepOutput, cached_step, measured


class Accuracy(StepOutput):
    """Rows of the accuracy table; `cosines` are per sample, keyed "<encoder> <precision> <target>"; `details` is one
    file, `task_details.json`: what becomes of each class, which classes have one embedding, and what becomes of the
    samples that change most.

    `evaluation` says what was evaluated: `samples.parquet` (id, image_hash, caption, label; a row's place is the
    index that image embeddings are keyed by) and `classes.json` (names and prompt templates, or null).
    """

    rows: tuple[Row, ...]
    cosines: ArtifactRef
    details: ArtifactRef
    evaluation: ArtifactRef


def score(data: DataRef, embeddings: list[Embeddings]) -> Accuracy:
    """Compare every runtime's embeddings with FP32, and FP8 with FP16.

    Raises:
        NumericError: the FP16 baseline itself is broken (mean cosine to FP32 below 0.99).
        SameAsBaseline: FP8 embeddings are FP16's, bit for bit.
    """
    with measured() as meter:
        _refuse_same(embeddings)
        dataset = data.open()
        arrays: dict[Key, Embedded] = {(e.encoder, e.target, e.precision): load_embedded(e.outputs) for e in embeddings}
        table = EmbeddingTable(dataset, arrays)
        fidelity = _Fidelity(table)
        rows = [*fidelity.rows(), *table.task_rows()]
        cosines = _keep("cosines", places.COSINES, fidelity.cosines)
        rest = {
            "classes": list(class_rows(table)),
            "changed": list(changed_rows(table)),
            "alike": alike_names(table),
        }
        details = _keep("task-details", places.DETAILS, rest)
        evaluation = _keep_evaluation(dataset)
    return Accuracy(rows=tuple(rows), cosines=cosines, details=details, evaluation=evaluation, stats=meter.stats)


def _refuse_same(embeddings: list[Embeddings]) -> None:
    """FP8 rounds: a candidate that gives its baseline's very bits is its baseline, under another name."""
    outputs = {(e.encoder, e.target, e.precision): e.outputs.digest for e in embeddings}
    for (encoder, target, precision), digest in outputs.items():
        if precision == "fp8" and digest == outputs.get((encoder, target, "fp16")):
            raise SameAsBaseline(
                f"the FP8 embeddings of the {encoder} encoder are those of FP16, bit for bit",
                where=target,
                expected="an FP8 engine that differs from its FP16 baseline",
                fix="look at the coverage table: is anything quantized, and is each engine the one it is named after?",
            )


def _keep(kind: str, name: str, content: object) -> ArtifactRef:
    store = active_store()
    with store.staging() as folder:
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return store.add(kind, folder)


def _keep_evaluation(dataset: Dataset) -> ArtifactRef:
    import pandas as pd

    store, samples = active_store(), dataset.samples
    columns = {name: [getattr(s, name) for s in samples] for name in ("id", "image_hash", "caption")}
    classes = dataset.classes
    content = None if classes is None else {"names": classes.names, "templates": classes.templates}
    with store.staging() as folder:
        labels = pd.Series([s.label for s in samples], dtype="Int64")
        pd.DataFrame({**columns, "label": labels}).to_parquet(folder / places.SAMPLES, index=False)
        (folder / places.CLASSES).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return store.add("evaluation", folder)


class _Fidelity:
    """How close embeddings are to FP32's and FP16's; `cosines` fills as the rows are made."""

    def __init__(self, table: EmbeddingTable) -> None:
        self.arrays = table.arrays
        self.cosines: dict[str, list[float]] = {}

    def rows(self) -> Iterator[Row]:
        for (encoder, target, precision), (_, array) in self.arrays.items():
            if target == REFERENCE:
                continue
            reference = self.arrays[encoder, REFERENCE, "fp32"][1]
            pair = (encoder, target, precision)
            similarity = cosine(reference, array)
            if precision == "fp16" and similarity.mean() < 0.99:
                raise NumericError(
                    f"the FP16 baseline of the {encoder} encoder is broken: cosine to FP32 {similarity.mean():.4f}",
                    where=target,
                    expected="at least 0.99: comparing FP8 with it would flatter FP8",
                    fix="the model may overflow FP16; see the report of the last good release",
                )
            self.cosines[" ".join((encoder, precision, target))] = [round(float(c), 7) for c in similarity]
            yield from self._compare(pair, "fp32", reference, array)
            if precision == "fp8" and (encoder, target, "fp16") in self.arrays:
                yield from self._compare(pair, "fp16", self.arrays[encoder, target, "fp16"][1], array)

    def _compare(
        self, pair: tuple[str, str, str], reference: str, first: NDArray[np.float32], second: NDArray[np.float32]
    ) -> Iterator[Row]:
        yield from fidelity_rows(pair, reference, first, second, _max_abs(first, second))


def _max_abs(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The largest absolute difference, as Polygraphy's Comparator reports it."""
    from polygraphy.comparator import Comparator, CompareFunc, IterationResult, RunResults
    from polygraphy.logger import G_LOGGER

    results = RunResults()
    for name, array in (("first", first), ("second", second)):
        results.append((name, [IterationResult({"embeds": array}, runner_name=name)]))
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        accuracy = Comparator.compare_accuracy(
            results, compare_func=CompareFunc.simple(atol=float("inf"), check_error_stat="max")
        )
    (comparison,) = accuracy
    return float(comparison["first", "second"][0]["embeds"].max_absdiff)


@cached_step("score", version=10, packages=("polygraphy", "numpy", "scipy", "pillow"))
def score_task(data: DataRef, embeddings: list[Embeddings]) -> Accuracy:
    return score(data, embeddings)
