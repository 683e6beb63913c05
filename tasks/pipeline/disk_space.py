"""Whether the disk has room for a run, checked before any work is done."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from artifacts.errors import NotEnoughSpace
from artifacts.manifest import Precision
from artifacts.number_words import megabytes
from tasks.checkpoints.snapshot import Snapshot
from tasks.clip.weights import WeightReader

MARGIN = 2
"""A factor on the estimate: temporary files need room too, and the estimate is rough."""
_CHECKPOINT_BYTES = 4.0
"""Bytes per parameter: the ModelOpt checkpoint holds FP32."""
_GRAPH_BYTES: dict[Precision, float] = {"fp16": 2.0, "fp8": 1.4}
"""Bytes per parameter: FP8 graphs keep embeddings and norms in FP16 (measured: 1.0 for a large image encoder, 1.3 for
a text encoder)."""
_KERNEL_BYTES = 4_000_000
"""Bytes of a GPU engine besides its weights."""
_EVIDENCE_BYTES = 16_000_000
"""Bytes of tables, embeddings, preprocessing and cached results."""


def estimate_bytes(parameters: int, precisions: Sequence[Precision], targets: Sequence[str]) -> int:
    """Estimate the bytes that a run keeps; `parameters` counts the weights of both encoders."""
    checkpoint = _CHECKPOINT_BYTES * parameters if "fp8" in precisions else 0
    graphs = sum(_GRAPH_BYTES[precision] for precision in precisions) * parameters * (1 + len(targets))
    kernels = 2 * len(precisions) * sum(target != "onnxruntime" for target in targets) * _KERNEL_BYTES
    return math.ceil(checkpoint + graphs + kernels + _EVIDENCE_BYTES)


def needed_bytes(snapshot: Snapshot, precisions: Sequence[Precision], targets: Sequence[str]) -> int:
    """The room that a run is asked to have: `MARGIN` times what it is estimated to keep.

    Raises:
        BadWeights: the checkpoint's files cannot be read.
    """
    return MARGIN * estimate_bytes(_parameters(snapshot), precisions, targets)


def _parameters(snapshot: Snapshot) -> int:
    return WeightReader(snapshot.weight_files()).parameters()


def require_space(store: Path, snapshot: Snapshot, precisions: Sequence[Precision], targets: Sequence[str]) -> None:
    """Make sure that the disk of `store` has `MARGIN` times the room that the run is estimated to need.

    Raises:
        NotEnoughSpace: it has less.
        BadWeights: the checkpoint's files cannot be read.
    """
    needed = needed_bytes(snapshot, precisions, targets)
    free = shutil.disk_usage(store).free
    if free < needed:
        raise NotEnoughSpace(
            f"{megabytes(free, 0)} are free, the run may need {megabytes(needed, 0)}",
            where=store,
            expected=f"{MARGIN} times the estimate for {_parameters(snapshot):,} parameters, "
            f"{len(precisions)} precisions and {len(targets)} targets",
            fix="free space, give a --store on another disk, or ask for fewer --targets",
        )
