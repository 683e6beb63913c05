"""The layers of both towers: attention, MLP and residual block, with settings for the differences between models.

They are written like transformers' own modules, so that ModelOpt finds each attention by its class and gives it q, k, v
and p quantizers, and so that tracing replaces it by two plain products. All other products are `nn.Linear`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.siglip.modeling_siglip import eager_attention_forward

from tasks.towers.rotary import Rotary, turned


@dataclass(frozen=True)
class BlockShape:
    """The sizes and settings of one tower's blocks."""

    width: int
    heads: int
    mlp_width: int
    activation: str
    eps: float
    norm_after: bool = False
    """If true, each branch is normalised after its last product instead of before its first one."""
    key_bias: bool = True
    inner_norm: bool = False
    """If true, attention's output is normalised before its last projection."""
    gated: bool = False
    """If true, the MLP multiplies its activation by a second projection (SwiGLU)."""
    mlp_norm: bool = False
    """If true, the MLP's activations are normalised before its last projection."""

    @classmethod
    def of(cls, part: dict[str, Any]) -> BlockShape:
        """Read a section of the configuration."""
        return cls(
            width=part["hidden_size"],
            heads=part["num_attention_heads"],
            mlp_width=part["intermediate_size"],
            activation=part["hidden_act"],
            eps=part["layer_norm_eps"],
            **{key: part[key] for key in ("norm_after", "key_bias", "inner_norm", "gated", "mlp_norm") if key in part},
        )


class TowerAttention(nn.Module):
    """Attention of `query` tokens over `values` tokens: the same tokens in a block, one learned query in pooling."""

    def __init__(
        self,
        config: Any,
        width: int,
        heads: int,
        *,
        values_width: int | None = None,
        key_bias: bool = True,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.heads = heads
        self.scaling = (width // heads) ** -0.5
        self.is_causal = False  # causal masks are passed like any other mask
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(values_width or width, width, bias=key_bias)
        self.v_proj = nn.Linear(values_width or width, width)
        self.norm = nn.Identity() if norm_eps is None else nn.LayerNorm(width, eps=norm_eps)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, query: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None = None, rotary: Rotary | None = None
    ) -> torch.Tensor:
        """query (B, Q, W), values (B, T, V), mask broadcastable to (B, heads, Q, T) and added to scores: (B, Q, W)."""
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        q, k, v = self._split(self.q_proj(query)), self._split(self.k_proj(values)), self._split(self.v_proj(values))
        if rotary is not None:
            q, k = turned(q, rotary), turned(k, rotary)
        context, _ = attend(self, q, k, v, mask, is_causal=False, scaling=self.scaling, dropout=0.0)
        return self.out_proj(self.norm(context.reshape(*query.shape[:-1], -1).contiguous()))

    def _split(self, values: torch.Tensor) -> torch.Tensor:
        """(B, T, W) to (B, heads, T, head_dim)."""
        return values.view(*values.shape[:-1], self.heads, -1).transpose(1, 2)


class Mlp(nn.Module):
    """Two products with an activation between them, and a third product as gate if the model has one."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.width, shape.mlp_width)
        self.gate = nn.Linear(shape.width, shape.mlp_width) if shape.gated else None
        self.activation = ACT2FN[shape.activation]
        self.norm = nn.LayerNorm(shape.mlp_width, eps=shape.eps) if shape.mlp_norm else nn.Identity()
        self.fc2 = nn.Linear(shape.mlp_width, shape.width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, T, W) to (B, T, W)."""
        if self.gate is None:
            inner = self.activation(self.fc1(hidden))
        else:
            inner = self.activation(self.gate(hidden)) * self.fc1(hidden)
        return self.fc2(self.norm(inner))


class Block(nn.Module):
    """A residual block: attention, then MLP, with a norm before each or after each."""

    def __init__(self, config: Any, shape: BlockShape) -> None:
        super().__init__()
        self.norm_after = shape.norm_after
        self.norm1 = nn.LayerNorm(shape.width, eps=shape.eps)
        self.attention = TowerAttention(
            config, shape.width, shape.heads, key_bias=shape.key_bias, norm_eps=shape.eps if shape.inner_norm else None
        )
        self.norm2 = nn.LayerNorm(shape.width, eps=shape.eps)
        self.mlp = Mlp(shape)

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor | None = None, rotary: Rotary | None = None
    ) -> torch.Tensor:
        """(B, T, W) to (B, T, W)."""
        if self.norm_after:
            hidden = hidden + self.norm1(self.attention(hidden, hidden, mask, rotary))
            return hidden + self.norm2(self.mlp(hidden))
        normal = self.norm1(hidden)
        hidden = hidden + self.attention(normal, normal, mask, rotary)
        return hidden + self.mlp(self.norm2(hidden))
