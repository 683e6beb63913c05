"""The names of the embedding step's files, and reading them back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts import places
from artifacts.refs import ArtifactRef
from artifacts.store.store import active_store

REFERENCE = "pytorch"
"""The name used as target for FP32 in PyTorch."""
EMBEDDINGS_FILE = places.EMBEDDINGS
KEYS_FILE = places.KEYS

Embedded = tuple[list[Any], NDArray[np.float32]]
"""The sample indices (image) or texts (text) of the rows, and the rows (n, d)."""


def load_embedded(outputs: ArtifactRef) -> Embedded:
    """Read `Embeddings.outputs` from the active store.

    Raises:
        ObjectMissing, ObjectDamaged.
    """
    store = active_store()
    keys = json.loads(store.path(outputs, KEYS_FILE).read_text(encoding="utf-8"))
    return keys, np.load(store.path(outputs, EMBEDDINGS_FILE))


def rows_of(embedded: Embedded, keys: list[Any]) -> NDArray[np.float32]:
    """The rows of `keys`, in their order; all of them must be there."""
    if embedded[0] == keys:
        return embedded[1]
    place = {key: row for row, key in enumerate(embedded[0])}
    return embedded[1][[place[key] for key in keys]]
