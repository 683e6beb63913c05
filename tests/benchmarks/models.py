"""Random-weight checkpoints, made when they are needed."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measure import run_child

OURS = Path(sys.executable)


@dataclass(frozen=True)
class Model:
    """A checkpoint folder, how its weights are stored, and how many there are in all and of the image encoder."""

    folder: Path
    dtype: str
    parameters: int
    image_parameters: int

    @property
    def amax(self) -> Path:
        """The stand-in for calibration that was written beside the weights."""
        return self.folder / "amax.json"


def model_in(work: Path, name: str) -> Model:
    """The checkpoint of an architecture; bigG's is FP16 in two shards, which halves what it takes of the disk."""
    folder = work / name
    dtype, shards = ("F16", 2) if name == "bigg" else ("F32", 1)
    # Written last, so a folder that has it is whole.
    count = folder / "parameters.json"
    if not count.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        cost = run_child(OURS, "write_model", name, folder, dtype, shards)
        count.write_text(json.dumps(cost.reported))
    return Model(folder, dtype, **json.loads(count.read_text()))
