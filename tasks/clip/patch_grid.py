"""SigLIP 2 NaFlex's patch and position embeddings at one image size: those of an ordinary vision transformer.

transformers' module takes patches that the image processor has cut and flattened, and fits the positions to each
picture. At one size the linear layer over a flat patch is a convolution, and the fitted positions are a table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tasks.clip.positions import interpolated


class PatchGrid(nn.Module):
    """The same function as the `Siglip2VisionEmbeddings` that it is made of, for pictures of `grid` patches."""

    position_ids: torch.Tensor

    def __init__(self, source: Any, grid: tuple[int, int]) -> None:
        super().__init__()
        linear, table, side = source.patch_embedding, source.position_embedding.weight.detach(), source.patch_size
        with torch.device("meta"):
            self.patch_embedding = nn.Conv2d(
                linear.in_features // side**2, linear.out_features, kernel_size=side, stride=side
            )
            self.position_embedding = nn.Embedding(grid[0] * grid[1], table.shape[1])
        weight = linear.weight.detach().reshape(linear.out_features, side, side, -1).permute(0, 3, 1, 2)
        self.patch_embedding.weight = nn.Parameter(weight.contiguous())
        self.patch_embedding.bias = nn.Parameter(linear.bias.detach().clone())
        self.position_embedding.weight = nn.Parameter(_on_grid(table, grid))
        positions = torch.arange(grid[0] * grid[1], device=table.device)
        self.register_buffer("position_ids", positions[None], persistent=False)

    def forward(self, pixel_values: torch.Tensor, spatial_shapes: None = None) -> torch.Tensor:
        """Pictures (B, 3, H, W) to patches (B, rows * columns, hidden)."""
        del spatial_shapes  # all the same
        patches: torch.Tensor = self.patch_embedding(pixel_values)  # (B, hidden, rows, columns)
        return patches.flatten(2).transpose(1, 2) + self.position_embedding(self.position_ids)


def _on_grid(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Positions (side * side, hidden) as (rows * columns, hidden)."""
    if grid[0] == grid[1] and grid[0] ** 2 == len(table):
        return table.clone()
    if table.is_meta:
        return torch.empty(grid[0] * grid[1], table.shape[1], dtype=table.dtype, device="meta")
    return torch.from_numpy(interpolated(table.cpu().numpy(), grid)).to(table)


def flat_patches(pixels: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (B, 3, H, W) as transformers' own model takes them, and their grids.

    The first is (B, rows * columns, side * side * 3), patch by patch from the left and the top, pixel by pixel in the
    same order, each with its channels; the second (B, 2), rows and columns.
    """
    batch, channels, height, width = pixels.shape
    rows, columns = height // side, width // side
    cut = pixels.reshape(batch, channels, rows, side, columns, side)
    flat = cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, -1)
    return flat, torch.tensor([[rows, columns]] * batch)
