"""The attention that is traced for export: explicit matmuls in one dtype, and a constant mask.

Hugging Face's eager attention computes the softmax in FP32, which leaves Casts in the graph that a strongly typed
TensorRT build refuses; `scaled_dot_product_attention` hides the products that must be quantized.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "clipsmith_export"
MASKED = -30000.0
"""Additive mask value: far below any score, and the sum of two of them is still finite in FP16."""


def register() -> None:
    """Make the attention and its mask known to transformers under `NAME`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)


def use_in(model: torch.nn.Module) -> None:
    """Let every attention of a model compute with the exported arithmetic."""
    register()
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            config._attn_implementation = NAME


def _attention(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """softmax(q k^T * scaling + mask) v; q, k, v are (B, heads, T, head_dim), the result (B, T, heads, head_dim)."""
    import torch

    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query, key.transpose(-1, -2)) * scale  # (B, heads, T, T)
    if attention_mask is not None:
        scores = scores + attention_mask
    context = torch.matmul(torch.softmax(scores, dim=-1), value)  # (B, heads, T, head_dim)
    return context.transpose(1, 2).contiguous(), None


def _mask(
    *,
    q_length: int,
    kv_length: int,
    mask_function: Any = None,
    attention_mask: torch.Tensor | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    **_: Any,
) -> torch.Tensor | None:
    """The mask that is added to the scores: (1, 1, T, T), constant, for causal attention; (B, 1, 1, T) for a padding
    mask (B, T); None if every position sees every other.

    Raises:
        NotImplementedError: a mask pattern that is neither causal nor full, or a padding mask with a causal one.
    """
    import torch
    from transformers.masking_utils import bidirectional_mask_function, causal_mask_function

    if mask_function is bidirectional_mask_function:
        if attention_mask is None:
            return None
        return (1.0 - attention_mask[:, None, None, :].to(dtype)) * MASKED
    if mask_function is not causal_mask_function or attention_mask is not None:
        raise NotImplementedError(f"unknown mask pattern {mask_function!r}, padding {attention_mask is not None}")
    full = torch.full((q_length, kv_length), MASKED, dtype=dtype, device=device)
    return torch.triu(full, diagonal=1)[None, None]
