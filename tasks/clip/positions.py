"""Position embeddings on another grid than the one they were trained on: bilinear, averaging where it gets coarser.

The same as `torch.nn.functional.interpolate(mode="bilinear", antialias=True, align_corners=False)`, by which
transformers fits the positions of SigLIP 2 NaFlex to a picture, without PyTorch and in double precision.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def interpolated(table: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float32]:
    """A table (side * side, D) of positions on a square grid, row by row, as (rows * columns, D) of another grid."""
    side = math.isqrt(len(table))
    values = table.astype(np.float64).reshape(side, side, -1)
    down, across = (_resampling(side, length) for length in grid)
    values = np.einsum("rs,scd->rcd", down, values)  # (rows, side, D)
    values = np.einsum("cs,rsd->rcd", across, values)  # (rows, columns, D)
    return values.reshape(grid[0] * grid[1], -1).astype(np.float32)


def _resampling(source: int, target: int) -> NDArray[np.float64]:
    """How much of each of `source` points goes into each of `target` points on the same line: (target, source).

    A triangle around the target's centre, one source point wide to either side, or one target point if that is more;
    what of it lies beyond the ends is left out.
    """
    step = source / target
    reach = max(step, 1.0)
    centres = (np.arange(target) + 0.5) * step
    distances = np.abs(np.arange(source) + 0.5 - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distances / reach)
    return weights / weights.sum(axis=1, keepdims=True)
