"""What clipsmith makes of a folder: checked, then its own preparation of pictures and texts before its FP32 model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from artifacts.store.store import Store
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import Snapshot
from tasks.data.images import decode_rgb
from tasks.families import family_named
from tasks.pipeline.checkpoint import CheckedCheckpoint, check, resolve
from tasks.quantizing.modelopt import load_plain
from tests.conformance.oracle import TEXTS, pictures
from tests.tasks.families.support import tensors


@dataclass(frozen=True)
class Ours:
    """A checkpoint that the check step let through, with inputs of its encoders."""

    snapshot: Snapshot
    checked: CheckedCheckpoint
    feeds: dict[str, dict[str, np.ndarray]]

    @classmethod
    def of(cls, folder: Path, store: Store) -> Ours:
        snapshot = resolve(str(folder), None, store)
        checked = check(snapshot)
        processor = Preprocess(store.path(checked.preprocess), family_named(snapshot.family), snapshot.config)
        pixels = [processor.image(decode_rgb(data, name)) for name, data in pictures().items()]
        feeds: dict[str, dict[str, np.ndarray]] = {
            "image": {"pixel_values": np.stack(pixels)},
            "text": {**processor.text_inputs(list(TEXTS))},
        }
        return cls(snapshot, checked, feeds)

    def embeddings(self) -> dict[str, np.ndarray]:
        """Of the FP32 model, as the reference of a run is made."""
        model, family = load_plain(self.snapshot, "sdpa")
        made: dict[str, Any] = {}
        with torch.no_grad():
            for encoder in ("image", "text"):
                made[encoder] = family.encode(model, encoder, *tensors(self.feeds[encoder])).numpy()
        return made
