"""SigLIP 2 NaFlex's patch and position embeddings at one image size, as in an ordinary vision transformer.

transformers' module takes patches that the image processor has cut and flattened, and interpolates the positions for
each picture. At a fixed size, the linear layer over flat patches is a convolution, and the positions are a table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tasks.clip.positions import interpolated


class PatchGrid(nn.Module):
    """The same function as the given `Siglip2VisionEmbeddings`, for pictures of `grid` (rows, columns) patches."""

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
        del spatial_shapes  # equal for all pictures
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
    """Pictures (B, 3, H, W) in the form that transformers' own model takes: (flat patches, grids).

    Flat patches are (B, rows * columns, side * side * 3): patches row by row, in each the pixels row by row, in each
    the channels. Grids are (B, 2): rows and columns.
    """
    batch, channels, height, width = pixels.shape
    rows, columns = height // side, width // side
    cut = pixels.reshape(batch, channels, rows, side, columns, side)
    flat = cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, -1)
    return flat, torch.tensor([[rows, columns]] * batch)
