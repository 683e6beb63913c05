"""Computing a release's accuracy table again from its saved embeddings, without running a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from artifacts import places
from artifacts.errors import BadSample
from artifacts.manifest import Manifest, Row
from artifacts.store.store import Store, activate
from tasks.data.base import Classes, Sample
from tasks.evaluation.embedding_table import EmbeddingTable
from tasks.evaluation.kept_embeddings import REFERENCE, load_embedded

if TYPE_CHECKING:
    from PIL.Image import Image

_SAMPLES, _CLASSES = (places.within(places.EVALUATION, name) for name in (places.SAMPLES, places.CLASSES))


@dataclass
class _KeptSet:
    """An evaluation set as a release records it: everything but the pictures."""

    source: str
    samples: Sequence[Sample]
    classes: Classes | None

    def image(self, index: int) -> Image:
        raise BadSample(f"a release does not keep its pictures: {self.samples[index].id}", where=self.source)

    def encoded(self, index: int) -> None:
        """Nothing: a release does not keep its pictures."""


def saved_accuracy(store: Store, manifest: Manifest) -> list[Row] | None:
    """The rows of the accuracy table: closeness of embeddings as recorded, and the task scored again by today's code.

    None if the release does not keep enough: no evaluation set, or no FP32 embeddings of both encoders.

    Raises:
        ObjectMissing, ObjectDamaged.
    """
    objects = {ref.digest: ref for ref in manifest.objects()}
    kept = {
        (str(file.encoder), str(file.target), str(file.precision)): objects[file.object]
        for file in manifest.files
        if file.kind == "embeddings"
    }
    paths = {file.path for file in manifest.files}
    if not {_SAMPLES, _CLASSES} <= paths or not {(e, REFERENCE, "fp32") for e in ("image", "text")} <= kept.keys():
        return None
    with store.reading(), activate(store):
        dataset = _dataset(store, manifest)
        arrays = {key: load_embedded(ref) for key, ref in kept.items()}
    alone = [row for row in manifest.tables.get("accuracy", ()) if row["encoder"] != "both"]
    return [*alone, *EmbeddingTable(dataset, arrays).task_rows()]


def _dataset(store: Store, manifest: Manifest) -> _KeptSet:
    import pandas as pd

    frame = pd.read_parquet(store.read(manifest, _SAMPLES))
    texts: list[list[Any]] = [frame[name].tolist() for name in ("id", "image_hash", "caption")]
    labels = [None if pd.isna(label) else int(label) for label in frame["label"]]
    samples = [Sample(*row) for row in zip(*texts, labels, strict=True)]
    content = json.loads(store.read(manifest, _CLASSES).read_text(encoding="utf-8"))
    classes = None if content is None else Classes(tuple(content["names"]), tuple(content["templates"]))
    return _KeptSet(manifest.provenance.evaluation.source, samples, classes)
