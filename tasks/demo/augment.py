"""Small random distortions of training pictures, in plain torch, as torchvision is not installed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_TURN = math.radians(12)
_ZOOM = 0.12
_SHEAR = 0.12
_SHIFT = 0.12  # of half the picture's side: two pixels of 32
_GAIN = 0.2


def distort(pictures: Tensor) -> Tensor:
    """Rotate, zoom, shear, shift, and dim or brighten each picture randomly, with torch's global generator.

    `pictures` are (B, C, H, W) floats in 0..1 on black, and so is the result. Areas from outside the picture are black.
    """
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    turn, across, down, shear, right, lower, gain = (torch.rand(7, len(pictures)) * 2 - 1).unbind()
    cos, sin = torch.cos(turn * _TURN), torch.sin(turn * _TURN)
    across, down = 1 + across * _ZOOM, 1 + down * _ZOOM
    first = torch.stack([cos * across, (shear * _SHEAR - sin) * down, right * _SHIFT], dim=-1)
    second = torch.stack([sin * across, cos * down, lower * _SHIFT], dim=-1)
    matrix = torch.stack([first, second], dim=1)  # (B, 2, 3)
    grid = affine_grid(matrix, list(pictures.shape), align_corners=False)
    moved = grid_sample(pictures, grid, align_corners=False)
    return (moved * (1 + gain * _GAIN)[:, None, None, None]).clamp(0, 1)
