"""The image tower: a vision transformer whose settings cover the variants of OpenCLIP and timm."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from transformers.activations import ACT2FN

from tasks.towers.layers import Block, BlockShape, Mlp, TowerAttention
from tasks.towers.rotary import tables


class ImageTower(nn.Module):
    """Pixels (B, 3, side, side) to embeddings (B, dim). `part` is the configuration's `vision_config`."""

    cosines: torch.Tensor
    sines: torch.Tensor

    def __init__(self, config: Any, part: dict[str, Any], dim: int) -> None:
        super().__init__()
        self.part = part
        shape = BlockShape.of(part)
        width, eps = shape.width, shape.eps
        self.grid = part["image_size"] // part["patch_size"]
        size = part["patch_size"]
        self.patch_embedding: nn.Module  # pixels to patches (B, W, grid, grid)
        if part["stem"] is None:
            self.patch_embedding = nn.Conv2d(3, width, size, size, bias=part["patch_bias"])
        else:
            self.patch_embedding = Stem(part["stem"]["channels"], part["stem"]["strides"], part["hidden_act"])
        self.class_embedding = nn.Parameter(torch.zeros(width)) if part["class_token"] else None
        positions = self.grid**2 + int(part["class_token"] and part["class_position"])
        self.positions = nn.Parameter(torch.zeros(positions, width))
        self.pre_norm = nn.LayerNorm(width, eps=eps) if part["pre_norm"] else nn.Identity()
        self.layers = nn.ModuleList(Block(config, shape) for _ in range(part["num_hidden_layers"]))
        for name, values in self.constants().items():
            self.register_buffer(name, torch.zeros(values.shape), persistent=False)
        pooled = part["pool_width"]
        self.norm = nn.LayerNorm(pooled if part["norm"] == "pooled" else width, eps=eps)
        self.pool = AttentionPooling(config, part) if part["pool"] == "attention" else None
        bias = part["projection"] == "biased"
        self.projection = nn.Linear(pooled, dim, bias=bias) if part["projection"] else nn.Identity()

    def constants(self) -> dict[str, NDArray[Any]]:
        """The values of the buffers: cosines and sines of rotary positions, shared by all blocks."""
        part = self.part
        if part["rotary"] is None:
            return {}
        head_dim = part["hidden_size"] // part["num_attention_heads"]
        cosines, sines = tables(part["rotary"], self.grid, head_dim, int(part["class_token"]))
        return {"cosines": cosines, "sines": sines}

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, dim), not normalised."""
        hidden = self.pre_norm(self._embedded(pixels))
        rotary = None if self.part["rotary"] is None else (self.cosines, self.sines)
        for layer in self.layers:
            hidden = layer(hidden, rotary=rotary)  # (B, T, W)
        if self.part["norm"] == "tokens":
            hidden = self.norm(hidden)
        pooled = self._pooled(hidden)
        return self.projection(self.norm(pooled) if self.part["norm"] == "pooled" else pooled)

    def _embedded(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, side, side) to (B, T, W): the class token, if there is one, then the patches row by row."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # (B, grid^2, W)
        if self.class_embedding is None:
            return patches + self.positions
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        if self.part["class_position"]:
            return torch.cat([first, patches], dim=1) + self.positions
        return torch.cat([first, patches + self.positions], dim=1)

    def _pooled(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, T, W) to (B, pooled width)."""
        if self.pool is not None:
            return self.pool(hidden)
        if self.part["pool"] == "class":
            return hidden[:, 0]
        return hidden[:, int(self.part["class_token"]) :].mean(dim=1)


class AttentionPooling(nn.Module):
    """Attention pooling: one learned query attends to all tokens.

    timm's version adds an MLP. OpenCLIP's version for CoCa first normalises query and tokens, and may have another
    width than the tokens.
    """

    def __init__(self, config: Any, part: dict[str, Any]) -> None:
        super().__init__()
        width, tokens, eps = part["pool_width"], part["hidden_size"], part["layer_norm_eps"]
        self.latent = nn.Parameter(torch.zeros(1, width))
        normalised = part["pool_norms"]
        self.query_norm = nn.LayerNorm(width, eps=eps) if normalised else nn.Identity()
        self.values_norm = nn.LayerNorm(tokens, eps=eps) if normalised else nn.Identity()
        self.attention = TowerAttention(config, width, part["pool_heads"], values_width=tokens)
        self.mlp: Mlp | None = None
        if part["pool_mlp_width"]:
            self.norm = nn.LayerNorm(width, eps=eps)
            self.mlp = Mlp(BlockShape(width, part["pool_heads"], part["pool_mlp_width"], part["pool_act"], eps))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, T, W) to (B, pooled width)."""
        query = self.query_norm(self.latent.expand(hidden.shape[0], 1, -1))
        pooled = self.attention(query, self.values_norm(hidden))  # (B, 1, pooled width)
        if self.mlp is not None:
            pooled = pooled + self.mlp(self.norm(pooled))
        return pooled[:, 0]


class Stem(nn.Module):
    """A sequence of convolutions without overlap, with the activation between them.

    Each except the last had a batch norm after it, which is merged into its weights.
    """

    def __init__(self, channels: list[int], strides: list[int], activation: str) -> None:
        super().__init__()
        self.activation = ACT2FN[activation]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, stride, stride)
            for inputs, outputs, stride in zip([3, *channels], channels, strides, strict=False)
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, side, side) to (B, W, grid, grid)."""
        hidden = pixels
        for place, convolution in enumerate(self.convolutions):
            hidden = convolution(self.activation(hidden) if place else hidden)
        return hidden
