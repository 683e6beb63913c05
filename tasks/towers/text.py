"""The text towers: OpenCLIP's transformer, and encoders that are classes of transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tasks.clip.attention import MASKED
from tasks.towers.layers import Block, BlockShape

CLASSES = {"bert": "BertModel", "roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel"}
"""transformers' classes by the `encoder` of the configuration."""
_ARCHITECTURE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
    "max_position_embeddings",
    "type_vocab_size",
    "pad_token_id",
)


class TextTower(nn.Module):
    """OpenCLIP's text tower: token ids (B, T) to embeddings (B, dim). `part` is the configuration's `text_config`."""

    causal_mask: torch.Tensor

    def __init__(self, config: Any, part: dict[str, Any], dim: int) -> None:
        super().__init__()
        self.part = part
        shape = BlockShape.of(part)
        self.tokens = part["context_length"] + int(part["class_token"])
        self.token_embedding = nn.Embedding(part["vocab_size"], shape.width)
        self.positions = nn.Parameter(torch.zeros(self.tokens, shape.width))
        self.class_embedding = nn.Parameter(torch.zeros(shape.width)) if part["class_token"] else None
        for name, values in self.constants().items():
            self.register_buffer(name, torch.zeros(values.shape), persistent=False)
        self.layers = nn.ModuleList(Block(config, shape) for _ in range(part["num_hidden_layers"]))
        self.norm = nn.LayerNorm(shape.width, eps=shape.eps)
        bias = part["projection"] == "biased"
        self.projection = nn.Linear(shape.width, dim, bias=bias) if part["projection"] else nn.Identity()

    def constants(self) -> dict[str, NDArray[Any]]:
        """The value of the buffer: the causal mask that is added to the scores, (1, 1, T, T)."""
        if not self.part["causal"]:
            return {}
        return {"causal_mask": np.triu(np.full((1, 1, self.tokens, self.tokens), MASKED, np.float32), k=1)}

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, dim), not normalised. The last norm works per token, so only the pooled token gets it."""
        ids = _blanked(ids) if self.part["blank_padding"] else ids
        hidden = self.token_embedding(ids)
        if self.class_embedding is not None:
            hidden = torch.cat([hidden, self.class_embedding.expand(ids.shape[0], 1, -1)], dim=1)
        hidden = hidden + self.positions
        mask = self._mask(ids, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, mask)  # (B, T, W)
        return self.projection(self.norm(self._pooled(hidden, ids)))

    def _mask(self, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
        """The mask that is added to the scores, broadcastable to (B, heads, T, T); None if there is none.

        With a class token, the padding mask is shifted by one position to the right, as OpenCLIP's CoCa was trained.
        """
        mask = self.causal_mask if self.part["causal"] else None
        if self.class_embedding is None:
            return mask
        padding = (ids == self.part["pad_token_id"]).to(dtype) * MASKED  # (B, T - 1)
        shifted = torch.cat([padding[:, :1] * 0.0, padding], dim=1)[:, None, None, :]  # (B, 1, 1, T)
        return shifted if mask is None else mask + shifted

    def _pooled(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """(B, T, W) to (B, W)."""
        pool = self.part["pool"]
        if pool == "first":
            return hidden[:, 0]
        if pool == "last":
            return hidden[:, -1]
        found = ids.to(torch.int)
        if pool == "end":
            found = (found == self.part["eos_token_id"]).int()
        return hidden[torch.arange(ids.shape[0], device=ids.device), found.argmax(dim=-1)]


def _blanked(ids: torch.Tensor) -> torch.Tensor:
    """Ids (B, T) with 0 after the end token, which has the largest id: OpenCLIP pads with 0, other tokenizers do not.

    It matters for bidirectional attention, which sees the padding.
    """
    end = ids.to(torch.int).argmax(dim=-1, keepdim=True)  # (B, 1)
    return ids * (torch.arange(ids.shape[1], device=ids.device) <= end).to(ids.dtype)


class EncoderTower(nn.Module):
    """An encoder class of transformers with OpenCLIP's pooling and projection.

    Token ids (B, T) and their mask (B, T), 1 for tokens and 0 for padding, to embeddings (B, dim).
    """

    def __init__(self, part: dict[str, Any], dim: int, attention: str | None) -> None:
        super().__init__()
        from transformers import AutoConfig

        from tasks.clip.lean import model_class

        self.pool = part["pool"]
        own = AutoConfig.for_model(part["encoder"], **{key: part[key] for key in _ARCHITECTURE})
        own._attn_implementation = attention
        self.encoder: nn.Module = model_class(CLASSES[part["encoder"]])(own, add_pooling_layer=self.pool == "pooler")
        width = own.hidden_size
        if part["projection"] == "mlp":
            self.projection: nn.Module = Projection(width, dim)
        else:
            self.projection = nn.Linear(width, dim, bias=False) if part["projection"] else nn.Identity()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, dim), not normalised."""
        given = self.encoder(input_ids=ids, attention_mask=mask)
        return self.projection(given.pooler_output if self.pool == "pooler" else self._pooled(given[0], mask))

    def _pooled(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, W) to (B, W): the first token, or the mean of all tokens except padding."""
        if self.pool == "first":
            return hidden[:, 0]
        kept = mask.to(hidden.dtype)  # sums would be exported with casts to FP32; means are not
        return (hidden * kept[..., None]).mean(dim=1) / kept.mean(dim=-1, keepdim=True)


class Projection(nn.Module):
    """Two products without bias, with exact GELU between them; the inner width is the mean of the two outer ones."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        inner = (width + dim) // 2
        self.fc1 = nn.Linear(width, inner, bias=False)
        self.activation = nn.GELU()
        self.fc2 = nn.Linear(inner, dim, bias=False)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """(B, width) to (B, dim)."""
        return self.fc2(self.activation(self.fc1(pooled)))
