"""Step 7b: FP32, FP16 and FP8 on the same samples: how close, and what it does to the task."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import NumericError, SameAsBaseline
from artifacts.manifest import Encoder, Row
from artifacts.refs import ArtifactRef
from artifacts.store import active_store
from tasks.data import Dataset
from tasks.datasource import DataRef
from tasks.embedded import Embedded, load_embedded
from tasks.embedding import REFERENCE, Embeddings
from tasks.metrics import cosine
from tasks.scoring import Hits, difference_rows, fidelity_rows, hit_rows
from tasks.steps import StepOutput, cached_step, measured
from tasks.task_hits import task_hits


class Accuracy(StepOutput):
    """Rows of the accuracy table; `cosines` are per sample, keyed "<encoder> <precision> <target>".

    `evaluation` says what was evaluated: `samples.parquet` (id, image_hash, caption, label; a row's place is the
    index that image embeddings are keyed by) and `classes.json` (names and prompt templates, or null).
    """

    rows: tuple[Row, ...]
    cosines: ArtifactRef
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
        table = _Table(dataset, embeddings)
        rows = list(table.fidelity_rows())
        for target in table.targets():
            rows += table.task_rows(target)
        store = active_store()
        with store.staging() as folder:
            (folder / "cosines.json").write_text(json.dumps(table.cosines))
            cosines = store.add("cosines", folder)
        evaluation = _keep_evaluation(dataset)
    return Accuracy(rows=tuple(rows), cosines=cosines, evaluation=evaluation, stats=meter.stats)


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


def _keep_evaluation(dataset: Dataset) -> ArtifactRef:
    import pandas as pd

    store, samples = active_store(), dataset.samples
    columns = {name: [getattr(s, name) for s in samples] for name in ("id", "image_hash", "caption")}
    classes = dataset.classes
    content = None if classes is None else {"names": classes.names, "templates": classes.templates}
    with store.staging() as folder:
        labels = pd.Series([s.label for s in samples], dtype="Int64")
        pd.DataFrame({**columns, "label": labels}).to_parquet(folder / "samples.parquet", index=False)
        (folder / "classes.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return store.add("evaluation", folder)


class _Table:
    """All embeddings by (encoder, target, precision), aligned on the samples that every image runtime decoded."""

    def __init__(self, dataset: Dataset, embeddings: list[Embeddings]) -> None:
        self.dataset = dataset
        self.arrays: dict[tuple[str, str, str], Embedded] = {
            (e.encoder, e.target, e.precision): load_embedded(e.outputs) for e in embeddings
        }
        self.indices: list[int] = next((k for (enc, _, _), (k, _) in self.arrays.items() if enc == "image"), [])
        self.cosines: dict[str, list[float]] = {}

    def targets(self) -> list[str]:
        return list(dict.fromkeys(target for _, target, _ in self.arrays if target != REFERENCE))

    def fidelity_rows(self) -> Iterator[Row]:
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

    # --- the task ----------------------------------------------------------------------------------------------------

    def task_rows(self, target: str) -> list[Row]:
        """Zero-shot classification where there are labels, retrieval where there are only captions."""
        precisions = [p for p in ("fp16", "fp8") if any(key[1:] == (target, p) for key in self.arrays)]
        hits = {"fp32": self._hits(REFERENCE, "fp32")} | {p: self._hits(target, p) for p in precisions}
        reference = "captions" if self.dataset.classes is None else "labels"
        rows: list[Row] = []
        for precision, metrics in hits.items():
            rows += hit_rows(REFERENCE if precision == "fp32" else target, precision, reference, metrics)
        rows += difference_rows(target, hits)
        return rows if target == self.targets()[0] else [row for row in rows if row["target"] != REFERENCE]

    def _encoder(self, encoder: Encoder, target: str, precision: str) -> NDArray[np.float32]:
        """One encoder's embeddings; FP32 stands in for an encoder that is not optimized."""
        array = self.arrays.get((encoder, target, precision)) or self.arrays[encoder, REFERENCE, "fp32"]
        return array[1]

    def _hits(self, target: str, precision: str) -> Hits:
        images = self._encoder("image", target, precision)
        texts = self._encoder("text", target, precision)
        return task_hits(self.dataset, self.indices, images, texts)


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


@cached_step("score", version=3, packages=("polygraphy", "numpy"))
def score_task(data: DataRef, embeddings: list[Embeddings]) -> Accuracy:
    return score(data, embeddings)
