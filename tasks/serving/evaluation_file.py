"""The evaluation set of an exported release as the bench reads it: `evaluation.npz`, from the data it was scored on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts import places
from artifacts.errors import DataError
from artifacts.manifest import Encoder, Manifest
from tasks.bench.evaluation import Evaluation
from tasks.checkpoints.preprocess import Processor
from tasks.clip.base import ENCODERS, MASK
from tasks.data import Dataset
from tasks.data.pinned import DataRef
from tasks.evaluation.kept_embeddings import EMBEDDINGS_FILE, KEYS_FILE, REFERENCE
from tasks.evaluation.question import task_of
from tasks.runtime.folder import ReleaseFolder
from tasks.torch_fp8.onnx_graph import OnnxGraph


def write_evaluation(folder: Path) -> Path:
    """Write it to `folder`, a release as `clipsmith export` writes it, which has the FP32 embeddings already.

    Raises:
        NotARelease, DamagedManifest: `folder` is no release.
        DataError: the data is not what the release was measured on, or the release has no FP32 embeddings.
        DataNotFound: the data is gone.
    """
    release = ReleaseFolder(folder)
    dataset = _data(release.manifest).open()
    kept = {encoder: _kept(release, encoder) for encoder in ENCODERS}
    (indices, images), (texts, words) = kept["image"], kept["text"]
    inputs = {"image": _pixels(release, dataset, indices), "text": _tokens(release, texts)}
    return Evaluation(inputs, {"image": images, "text": words}, task_of(dataset, indices)).save(folder)


def _data(manifest: Manifest) -> DataRef:
    source = manifest.provenance.evaluation
    return DataRef(
        spec=source.source.removesuffix(" (evaluation)"),
        role="evaluation",
        limit=source.samples,
        digest=source.digest,
        samples=source.samples,
        columns=manifest.provenance.parameters.get("evaluation", {}).get("columns"),
    )


def _kept(release: ReleaseFolder, encoder: Encoder) -> tuple[list[Any], NDArray[np.float32]]:
    """The keys of the FP32 embeddings' rows, and the rows."""
    place = release.root / places.evidence("embeddings", encoder, "fp32", REFERENCE)
    try:
        keys = json.loads((place / KEYS_FILE).read_text(encoding="utf-8"))
        return keys, np.load(place / EMBEDDINGS_FILE)
    except OSError as error:
        raise DataError(
            f"the release has no FP32 embeddings of the {encoder} encoder: {error.strerror}",
            where=place,
            fix="export the release again",
        ) from error


def _pixels(release: ReleaseFolder, dataset: Dataset, indices: Sequence[int]) -> dict[str, NDArray[Any]]:
    processor = _processor(release, context=0, masked=False)
    return {"pixel_values": np.stack([processor.image(dataset.image(i)) for i in indices]).astype(np.float16)}


def _tokens(release: ReleaseFolder, texts: list[str]) -> dict[str, NDArray[Any]]:
    graph = OnnxGraph.load(next((release.root / "text").glob("*.onnx")))
    ports = {port.name: port.shape for port in graph.inputs}
    return _processor(release, context=ports["input_ids"][0], masked=MASK in ports).text_inputs(texts)


def _processor(release: ReleaseFolder, *, context: int, masked: bool) -> Processor:
    with TemporaryDirectory(prefix="clipsmith-preprocess-") as own:
        return Processor(release.preprocess(Path(own)), release.family, context=context, masked=masked)
