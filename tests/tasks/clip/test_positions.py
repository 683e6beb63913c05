"""Position embeddings on another grid are what PyTorch's antialiased bilinear interpolation makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.clip.positions import interpolated


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("side", "grid"),
    [(16, (12, 20)), (16, (4, 4)), (4, (6, 4)), (7, (1, 9)), (16, (32, 33)), (16, (16, 16)), (3, (5, 2)), (1, (2, 3))],
)
def test_it_is_pytorchs(side: int, grid: tuple[int, int], dtype: type) -> None:
    table = np.random.default_rng(side).standard_normal((side * side, 24)).astype(dtype)
    image = torch.from_numpy(table.astype(np.float64)).reshape(1, side, side, -1).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(image, size=grid, mode="bilinear", align_corners=False, antialias=True)
    got = interpolated(table, grid)
    assert got.dtype == np.float32
    assert np.abs(got - wanted.flatten(2)[0].T.numpy()).max() < 5e-7


def test_a_grid_of_its_own_size_is_unchanged() -> None:
    table = np.random.default_rng(0).standard_normal((25, 3)).astype(np.float32)
    assert np.array_equal(interpolated(table, (5, 5)), table)
