"""Evaluating a whole recipe: the graphs that `optimize` would export, run by ONNX Runtime on the evaluation set.

The rows are those of a release's accuracy table, so a recipe that passes the gates here also passes in `optimize`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.manifest import Encoder, Precision, Row
from tasks.clip.weights import WeightReader
from tasks.data.base import Dataset
from tasks.engines import backend_for
from tasks.engines.checked import halved
from tasks.evaluation.embedding_table import EmbeddingTable, Key
from tasks.evaluation.kept_embeddings import REFERENCE, Embedded
from tasks.evaluation.scoring import all_fidelity_rows
from tasks.file_names import onnx_name
from tasks.graph.channels import Amax, with_channels
from tasks.graph.quantize import quantize
from tasks.graph.skeleton import Skeleton
from tasks.graph.writer import write_onnx
from tasks.quantizing.recipe import Recipe
from tasks.search.choice import Choice
from tasks.search.feeds import Feed
from tasks.search.recipe_file import chosen

TARGET = "onnxruntime"
_KNOWN = 8
"""How many embeddings of the whole set are kept: those of FP16 for both encoders, and those of the last choices."""


@dataclass(frozen=True)
class EncoderGraph:
    """What an encoder's FP16 and FP8 graphs are made from: one trace, the weights, and the calibrated amax."""

    skeleton: Skeleton
    weights: WeightReader
    amax: Mapping[str, float]

    def amax_of(self, recipe: Recipe) -> Mapping[str, Amax]:
        """The amax by quantizer as the recipe needs it: one per tensor, or one per output channel."""
        return with_channels(self.amax, self.skeleton, recipe, self.weights)

    def write(self, recipe: Recipe | None, path: Path) -> None:
        """Write the ONNX file for a recipe; for FP16 if it is None."""
        skeleton = self.skeleton if recipe is None else quantize(self.skeleton, recipe, self.amax_of(recipe))
        write_onnx(skeleton, self.weights, path, {})


@dataclass
class Evaluator:
    """Computes the accuracy of choices; `fp32` are PyTorch's embeddings, the reference.

    An encoder's feeds are run once for each choice that is new to that encoder.
    """

    graphs: Mapping[Encoder, EncoderGraph]
    recipe: Recipe
    feeds: Mapping[Encoder, Iterable[Feed]]
    dataset: Dataset
    fp32: Mapping[Encoder, Embedded]
    _known: dict[tuple[Encoder, Precision, Choice], Embedded] = field(default_factory=dict)

    def rows(self, choice: Choice) -> list[Row]:
        """The rows of the accuracy table for a choice; an encoder whose part of it is known is not run again."""
        arrays: dict[Key, Embedded] = {}
        for encoder in self.graphs:
            arrays[encoder, TARGET, "fp16"] = self._embedded(encoder, "fp16", Choice())
            arrays[encoder, TARGET, "fp8"] = self._embedded(encoder, "fp8", choice.of(encoder))
        fidelity = all_fidelity_rows(
            {key: rows for key, (_, rows) in arrays.items()}, {e: rows for e, (_, rows) in self.fp32.items()}
        )
        references: dict[Key, Embedded] = {(e, REFERENCE, "fp32"): made for e, made in self.fp32.items()}
        return [*fidelity, *EmbeddingTable(self.dataset, references | arrays).task_rows()]

    def _embedded(self, encoder: Encoder, precision: Precision, choice: Choice) -> Embedded:
        key = (encoder, precision, choice)
        made = self._known.pop(key, None)
        if made is None:
            with tempfile.TemporaryDirectory(prefix="clipsmith-search-") as folder:
                path = Path(folder) / onnx_name(precision)
                self.graphs[encoder].write(None if precision == "fp16" else chosen(self.recipe, choice), path)
                made = embed_onnx(path, self.feeds[encoder])
        self._known[key] = made  # the most recently used is the last
        while len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]
        return made


def embed_onnx(path: Path, feeds: Iterable[Feed]) -> Embedded:
    """The embeddings that ONNX Runtime computes from the feeds with this file; FP32 inputs are converted to FP16."""
    keys: list[Any] = []
    rows: list[NDArray[np.float32]] = []
    with backend_for(TARGET).runner(path, path.stem) as runner:
        for names, feed in feeds:
            (output,) = runner.infer(halved(feed)).values()
            rows.append(np.array(output, dtype=np.float32))
            keys += names
    return keys, np.concatenate(rows)
