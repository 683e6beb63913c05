"""Values of the index buffers that models make for themselves; on the meta device they have none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import ExportError


def index_buffer(name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The buffer that the family's model would have made: positions count from zero, token types are zero.

    Raises:
        ExportError: a buffer of another name.
    """
    if name.endswith("position_ids"):
        return np.arange(shape[-1], dtype=np.int64).reshape(shape)
    if name.endswith("token_type_ids"):
        return np.zeros(shape, np.int64)
    raise ExportError(f"buffer {name} has no known value", fix="teach tasks/clip/buffers.py about it")
