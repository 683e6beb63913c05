"""The evaluation set as one file in an exported folder: `evaluation.npz`.

It holds the encoders' inputs, their FP32 embeddings, and the task, so that the accuracy table can be computed on a GPU
machine with only NumPy.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import DataError
from tasks.evaluation.scoring import Classification, Retrieval, Task

EVALUATION_FILE = "evaluation.npz"
_INPUT, _REFERENCE, _TASK = "input", "fp32", "task"


@dataclass(frozen=True)
class Evaluation:
    """By encoder: `inputs` are arrays (n, ...) by input name, pixels in FP16; `references` FP32 embeddings (n, d)."""

    inputs: Mapping[str, Mapping[str, NDArray[Any]]]
    references: Mapping[str, NDArray[np.float32]]
    task: Task

    def save(self, folder: Path) -> Path:
        """Write the evaluation set to an exported folder; return the file's path."""
        arrays = {f"{_REFERENCE}/{encoder}": array for encoder, array in self.references.items()}
        for encoder, feed in self.inputs.items():
            arrays |= {f"{_INPUT}/{encoder}/{name}": array for name, array in feed.items()}
        arrays |= {f"{_TASK}/{name}": np.asarray(value) for name, value in vars(self.task).items()}
        path = folder / EVALUATION_FILE
        np.savez_compressed(path, allow_pickle=False, **arrays)
        return path

    @classmethod
    def load(cls, folder: Path) -> Evaluation:
        """Read the evaluation set of an exported folder.

        Raises:
            DataError: there is none, or it cannot be read.
        """
        path = folder / EVALUATION_FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return _from(dict(arrays))
        except FileNotFoundError as error:
            raise DataError(
                f"there is no {EVALUATION_FILE} in the folder", fix="export with `clipsmith bench`"
            ) from error
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{EVALUATION_FILE} cannot be read: {error}",
                where=path,
                expected="inputs, FP32 embeddings and a task, as `clipsmith bench` writes them",
                fix="write it again",
            ) from error


def _from(arrays: Mapping[str, NDArray[Any]]) -> Evaluation:
    inputs: dict[str, dict[str, NDArray[Any]]] = {}
    references: dict[str, NDArray[np.float32]] = {}
    task: dict[str, NDArray[Any]] = {}
    for key, array in arrays.items():
        kind, _, name = key.partition("/")
        if kind == _INPUT:
            encoder, _, port = name.partition("/")
            inputs.setdefault(encoder, {})[port] = array
        elif kind == _REFERENCE:
            references[name] = array
        else:
            task[name] = array
    if inputs.keys() != references.keys() or not inputs:
        raise ValueError(f"inputs of {sorted(inputs)}, embeddings of {sorted(references)}")
    if "labels" in task:
        classification = Classification(int(task["classes"]), task["prompts"], task["labels"])
        return Evaluation(inputs, references, classification)
    return Evaluation(inputs, references, Retrieval(task["pictures"], task["captions"], task["pairs"]))
