"""Step 7b: compare FP32, FP16 and FP8 on the same samples: closeness of embeddings, and accuracy on the task."""

from __future__ import annotations

import json

from artifacts import places
from artifacts.errors import NumericError, SameAsBaseline
from artifacts.manifest import Row
from artifacts.refs import ArtifactRef
from tasks.data.base import Dataset
from tasks.data.pinned import DataRef
from tasks.evaluation.embedding_table import EmbeddingTable, Key
from tasks.evaluation.kept_embeddings import REFERENCE, Embedded, load_embedded
from tasks.evaluation.metrics import cosine
from tasks.evaluation.question_details import alike_names, changed_rows, class_rows
from tasks.evaluation.scoring import all_fidelity_rows
from tasks.pipeline.embedding import Embeddings
from tasks.pipeline.kept import keep
from tasks.runs.steps import StepOutput, cached_step, measured


class Accuracy(StepOutput):
    """Rows of the accuracy table, and the samples behind them.

    `cosines` are per sample, keyed "<encoder> <precision> <target>". `details` holds `task_details.json`: each class's
    recall, classes with equal embeddings, and the samples that change most. `evaluation` holds `samples.parquet` (id,
    image_hash, caption, label; image embeddings are keyed by the row number) and `classes.json` (names and prompt
    templates, or null).
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
        cosines = keep("cosines", {places.COSINES: _json(_cosines(table))})
        made = {key: array for key, (_, array) in table.arrays.items() if key[1] != REFERENCE}
        references = {key[0]: array for key, (_, array) in table.arrays.items() if key[1] == REFERENCE}
        rows = [*all_fidelity_rows(made, references), *table.task_rows()]
        rest = {"classes": list(class_rows(table)), "changed": list(changed_rows(table)), "alike": alike_names(table)}
        details = keep("task-details", {places.DETAILS: _json(rest)})
        evaluation = _keep_evaluation(dataset)
    return Accuracy(rows=tuple(rows), cosines=cosines, details=details, evaluation=evaluation, stats=meter.stats)


def _refuse_same(embeddings: list[Embeddings]) -> None:
    """Refuse FP8 embeddings that equal FP16's bit for bit: as FP8 rounds, such an engine is not an FP8 engine."""
    outputs = {(e.encoder, e.target, e.precision): e.outputs.digest for e in embeddings}
    for (encoder, target, precision), digest in outputs.items():
        if precision == "fp8" and digest == outputs.get((encoder, target, "fp16")):
            raise SameAsBaseline(
                f"the FP8 embeddings of the {encoder} encoder are those of FP16, bit for bit",
                where=target,
                expected="an FP8 engine that differs from its FP16 baseline",
                fix="look at the coverage table: is anything quantized, and is each engine the one it is named after?",
            )


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False)


def _keep_evaluation(dataset: Dataset) -> ArtifactRef:
    import pandas as pd

    samples, classes = dataset.samples, dataset.classes
    columns = {name: [getattr(s, name) for s in samples] for name in ("id", "image_hash", "caption")}
    frame = pd.DataFrame({**columns, "label": pd.Series([s.label for s in samples], dtype="Int64")})
    content = None if classes is None else {"names": classes.names, "templates": classes.templates}
    return keep("evaluation", {places.SAMPLES: frame, places.CLASSES: _json(content)})


def _cosines(table: EmbeddingTable) -> dict[str, list[float]]:
    """The cosine of each sample's embedding with FP32's, keyed as `Accuracy.cosines`.

    Raises:
        NumericError: the cosines of an FP16 baseline are below 0.99 on average.
    """
    found: dict[str, list[float]] = {}
    for (encoder, target, precision), (_, array) in table.arrays.items():
        if target == REFERENCE:
            continue
        similarity = cosine(table.arrays[encoder, REFERENCE, "fp32"][1], array)
        if precision == "fp16" and similarity.mean() < 0.99:
            raise NumericError(
                f"the FP16 baseline of the {encoder} encoder is broken: cosine to FP32 {similarity.mean():.4f}",
                where=target,
                expected="at least 0.99: comparing FP8 with it would flatter FP8",
                fix="the model may overflow FP16; see the report of the last good release",
            )
        found[f"{encoder} {precision} {target}"] = [round(float(c), 7) for c in similarity]
    return found


score_task = cached_step("score", version=10, packages=("polygraphy", "numpy", "scipy", "pillow"))(score)
