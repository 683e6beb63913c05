"""Embeddings made without a model, kept as the embedding step keeps them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from artifacts.store.store import Store
from tasks.data.pinned import DataRef
from tasks.data.texts import evaluation_texts
from tasks.pipeline.accuracy import Accuracy, score
from tasks.pipeline.embedding import Embeddings
from tasks.runs.step_cost import StepStats

STATS = StepStats(wall_s=1, peak_rss_mb=1)


def kept(store: Store, encoder: Any, precision: Any, target: str, keys: list[Any], array: np.ndarray) -> Embeddings:
    with store.staging() as folder:
        np.save(folder / "embeddings.npy", array.astype(np.float32))
        (folder / "keys.json").write_text(json.dumps(keys))
        outputs = store.add("embeddings", folder)
    return Embeddings(
        encoder=encoder,
        precision=precision,
        target=target,
        outputs=outputs,
        rows=len(keys),
        skipped=0,
        truncated=0,
        stats=STATS,
    )


class Case:
    """Synthetic embeddings: FP32, and noisier copies as FP16 and FP8."""

    def __init__(self, store: Store, data: DataRef, noise: dict[str, float], indices: list[int] | None = None) -> None:
        self.store, self.data = store, data
        rng = np.random.default_rng(1)
        self.texts = evaluation_texts(data.open())
        self.indices = list(range(data.samples)) if indices is None else indices
        base = {"image": rng.standard_normal((len(self.indices), 6)), "text": rng.standard_normal((len(self.texts), 6))}
        self.arrays = {
            (encoder, precision): (array + size * rng.standard_normal(array.shape)).astype(np.float32)
            for encoder, array in base.items()
            for precision, size in {"fp32": 0.0, **noise}.items()
        }

    def embeddings(self, drop: tuple[tuple[str, str], ...] = ()) -> list[Embeddings]:
        keys: dict[str, list[Any]] = {"image": self.indices, "text": self.texts}
        return [
            kept(self.store, e, p, "pytorch" if p == "fp32" else "onnxruntime", keys[e], array)
            for (e, p), array in self.arrays.items()
            if (e, p) not in drop
        ]

    def score(self, drop: tuple[tuple[str, str], ...] = ()) -> Accuracy:
        return score(self.data, self.embeddings(drop))
