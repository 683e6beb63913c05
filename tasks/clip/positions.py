"""Interpolating position embeddings to another grid: bilinear, with antialiasing when the new grid is coarser.

It computes the same as `torch.nn.functional.interpolate(mode="bilinear", antialias=True, align_corners=False)`, which
transformers uses for SigLIP 2 NaFlex, but without PyTorch and in double precision.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def interpolated(table: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate a table (side * side, D) of positions on a square grid, row by row, to (rows * columns, D)."""
    side = math.isqrt(len(table))
    values = table.astype(np.float64).reshape(side, side, -1)
    down, across = (_resampling(side, length) for length in grid)
    values = np.einsum("rs,scd->rcd", down, values)  # (rows, side, D)
    values = np.einsum("cs,rsd->rcd", across, values)  # (rows, columns, D)
    return values.reshape(grid[0] * grid[1], -1).astype(np.float32)


def _resampling(source: int, target: int) -> NDArray[np.float64]:
    """The weights with which `source` points on a line are averaged into `target` points: (target, source).

    Weights form a triangle around the target's centre. Its half width is the distance of two source points, or of two
    target points if that is larger; the part beyond the ends of the line is cut off.
    """
    step = source / target
    reach = max(step, 1.0)
    centres = (np.arange(target) + 0.5) * step
    distances = np.abs(np.arange(source) + 0.5 - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distances / reach)
    return weights / weights.sum(axis=1, keepdims=True)
