"""Rotary positions on a grid of patches, as in EVA-02 and Perception Encoder.

Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, on two axes: half of a head's channel
pairs are rotated by the row, half by the column.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Rotary = tuple[torch.Tensor, torch.Tensor]
"""Cosines and signed sines, each (T, head_dim), from `tables`."""
_TEMPERATURE = 10000.0


def tables(rotary: dict[str, Any], grid: int, head_dim: int, prefix: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cosines and sines, (prefix + grid * grid, head_dim) in FP32; the first sine of each channel pair is negated.

    `rotary` has `reference`, the grid of the first training, to which positions are scaled; `offset`, where counting
    starts; and `order`: `yx` if the first half of the pairs is rotated by the row, `xy` if by the column.
    The `prefix` tokens before the patches are not rotated.
    """
    places = (np.arange(grid) + rotary["offset"]) / grid * rotary["reference"]
    bands = _TEMPERATURE ** -(np.arange(head_dim // 4) / (head_dim // 4))
    turns = places[:, None] * bands  # (grid, head_dim / 4)
    rows = np.broadcast_to(turns[:, None], (grid, grid, len(bands)))
    columns = np.broadcast_to(turns[None], (grid, grid, len(bands)))
    halves = (rows, columns) if rotary["order"] == "yx" else (columns, rows)
    angles = np.concatenate(halves, axis=-1).reshape(grid * grid, -1).repeat(2, axis=-1)  # (grid^2, head_dim)
    signs = np.tile([-1.0, 1.0], head_dim // 2)
    unturned = np.zeros((prefix, head_dim))
    cosines = np.concatenate([unturned + 1.0, np.cos(angles)])
    sines = np.concatenate([unturned, np.sin(angles) * signs])
    return cosines.astype(np.float32), sines.astype(np.float32)


def turned(values: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """Rotate each pair of neighbouring channels of (B, heads, T, head_dim) by the token's angle.

    The pair (a, b) becomes (a cos - b sin, b cos + a sin); the sines already have the signs.
    """
    cosines, sines = rotary
    pairs = values.view(*values.shape[:-1], -1, 2)  # (B, heads, T, head_dim / 2, 2)
    swapped = torch.cat([pairs[..., 1:], pairs[..., :1]], dim=-1).flatten(-2)
    return values * cosines + swapped * sines
