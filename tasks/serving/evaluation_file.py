"""Writing the bench's evaluation set of an exported release, `evaluation.npz`, from the data that it was scored on."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts import places
from artifacts.errors import DataError
from artifacts.manifest import Encoder
from tasks.bench.evaluation import Evaluation
from tasks.checkpoints.preprocess import Processor
from tasks.clip.base import MASK
from tasks.data.pinned import DataRef
from tasks.evaluation.kept_embeddings import EMBEDDINGS_FILE, KEYS_FILE, REFERENCE
from tasks.evaluation.question import task_of
from tasks.runtime.folder import ReleaseFolder
from tasks.torch_fp8.onnx_graph import OnnxGraph


def write_evaluation(folder: Path) -> Path:
    """Write the file to `folder`, an exported release, which has the FP32 embeddings already; return its path.

    Raises:
        NotARelease, DamagedManifest: `folder` is not a release.
        DataError: the data has changed since the release was measured, or the release has no FP32 embeddings.
        DataNotFound: the data is gone.
    """
    release = ReleaseFolder(folder)
    provenance = release.manifest.provenance
    source = provenance.evaluation
    dataset = DataRef(
        spec=source.source.removesuffix(" (evaluation)"),
        role="evaluation",
        limit=source.samples,
        digest=source.digest,
        samples=source.samples,
        columns=provenance.parameters.get("evaluation", {}).get("columns"),
    ).open()
    (indices, images), (texts, words) = _kept(release, "image"), _kept(release, "text")
    graph = OnnxGraph.load(next((release.root / "text").glob("*.onnx")))
    ports = {port.name: port.shape for port in graph.inputs}
    with TemporaryDirectory(prefix="clipsmith-preprocess-") as own:
        preprocess = release.preprocess(Path(own))
        processor = Processor(preprocess, release.family, context=ports["input_ids"][0], masked=MASK in ports)
    pixels = np.stack([processor.image(dataset.image(index)) for index in indices]).astype(np.float16)
    inputs: dict[str, dict[str, NDArray[Any]]]
    inputs = {"image": {"pixel_values": pixels}, "text": processor.text_inputs(texts)}
    return Evaluation(inputs, {"image": images, "text": words}, task_of(dataset, indices)).save(folder)


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
