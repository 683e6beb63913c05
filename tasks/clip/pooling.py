"""SigLIP's attention pooling as `nn.Linear` layers and transformers' attention interface.

`nn.MultiheadAttention` keeps q, k and v in one stacked weight and hides its products. This module is written like
transformers' own attention modules, so that ModelOpt finds it by its class and gives it q, k, v and p quantizers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.siglip.modeling_siglip import eager_attention_forward


class PoolingAttention(nn.Module):
    """The same function as the given `nn.MultiheadAttention` (batch first, no mask, no dropout)."""

    def __init__(self, source: nn.MultiheadAttention, config: Any) -> None:
        super().__init__()
        self.config = config
        self.heads = source.num_heads
        self.scaling = source.head_dim**-0.5
        self.is_causal = False
        weights = source.in_proj_weight.detach().chunk(3)
        biases = source.in_proj_bias.detach().chunk(3)
        self.q_proj, self.k_proj, self.v_proj = (_linear(w, b) for w, b in zip(weights, biases, strict=True))
        self.out_proj = _linear(source.out_proj.weight.detach(), source.out_proj.bias.detach())

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: None = None
    ) -> tuple[torch.Tensor, None]:
        """query (B, 1, H), key and value (B, T, H) to (B, 1, H); attention weights are not returned."""
        del attn_mask  # every picture fills its grid
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        q, k, v = (
            self._split(projection(values))
            for projection, values in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        context, _ = attend(self, q, k, v, None, is_causal=False, scaling=self.scaling, dropout=0.0)
        return self.out_proj(context.reshape(*query.shape[:-1], -1).contiguous()), None

    def _split(self, values: torch.Tensor) -> torch.Tensor:
        """(B, T, H) to (B, heads, T, head_dim)."""
        return values.view(*values.shape[:-1], self.heads, -1).transpose(1, 2)


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    with torch.device("meta"):
        linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return linear
