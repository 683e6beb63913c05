"""SigLIP and SigLIP 2 in OpenCLIP's layout: timm's vision transformer with attention pooling, OpenCLIP's text tower.

They compute the same as transformers' `SiglipModel`; names, stacked weights and some shapes differ. Layout: timm
(`vision_transformer.py`, `attention_pool.py`) and https://github.com/mlfoundations/open_clip (`transformer.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.clip.base import PROJECTIONS, Piece
from tasks.clip.siglip import POOLING, Siglip
from tasks.openclip.architectures import TIMM
from tasks.openclip.document import Document
from tasks.openclip.kind import OpenClipKind
from tasks.openclip.names import as_transformers, find_pieces
from tasks.openclip.plain import CLIP_NAMES, TEXT_KEYS, activation_and_eps, text_sizes
from tasks.openclip.tokenizer import TOKENIZER_KEYS, odd_tokenizer

_TEXT_SETTINGS = {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}
"""The settings of SigLIP's text tower: bidirectional attention, pooling at the last position, projection with bias."""
_NAMES = CLIP_NAMES | {
    "vision_model.pool.latent": "vision_model.head.probe",
    "vision_model.pool.attention": POOLING,
    "vision_model.pool.norm": "vision_model.head.layernorm",
    "vision_model.pool.mlp": "vision_model.head.mlp",
    "text_model.projection": "text_model.head",
}
_PROBE = "vision_model.pool.latent"


class OpenClipSiglip(OpenClipKind, Siglip):
    """Adapter for OpenCLIP's files of SigLIP models, which run as `transformers.SiglipModel`."""

    name = "openclip_siglip"
    covers = "OpenCLIP layout: SigLIP and SigLIP 2 with a timm tower"
    known: ClassVar[tuple[str, ...]] = ("ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP-384", "ViT-gopt-16-SigLIP2-384")
    model_types: ClassVar[tuple[str, ...]] = ()

    def looks_like(self, document: Document) -> bool:
        """True if timm's name of the image tower says so."""
        return "siglip" in str(document.vision["timm_model_name"])

    def why_not(self, document: Document) -> str | None:
        """Another image tower, pooling or projection, or any setting other than sizes and activation."""
        strange = document.strange(
            vision=("timm_model_name", "timm_pool", "timm_proj", "image_size"),
            text=(*TEXT_KEYS, *TOKENIZER_KEYS, *_TEXT_SETTINGS, "act_kwargs", "norm_kwargs"),
        )
        return strange or _odd_vision(document) or _odd_text(document) or odd_tokenizer(document)

    def read(self, document: Document) -> dict[str, Any]:
        """The configuration in the form of SigLIP's `config.json`."""
        text = document.text
        tower = TIMM[document.vision["timm_model_name"]]
        return {
            "model_type": "siglip",
            "vision_config": {
                "hidden_size": tower.width,
                "intermediate_size": tower.mlp_width,
                "num_hidden_layers": tower.layers,
                "num_attention_heads": tower.heads,
                "image_size": tower.image_size,
                "patch_size": tower.patch,
                "hidden_act": tower.activation,
                "layer_norm_eps": tower.eps,
            },
            "text_config": text_sizes(text)
            | activation_and_eps(document, text)
            | {"projection_size": document.embed_dim, "bos_token_id": None, "eos_token_id": 1},
        }

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> Mapping[str, Piece | None]:
        """Every parameter by SigLIP's names; unlike in our tower, its probe keeps a batch axis of length 1."""
        found = {
            name: dataclasses.replace(piece, shape=None) if name == _PROBE else piece
            for name, piece in find_pieces(stored).items()
        }
        loss = ("logit_scale", "logit_bias")
        return as_transformers(found, _NAMES) | {name: Piece(name, shape=(1,)) for name in loss if name in stored}

    def as_built(self, state: dict[str, Any]) -> dict[str, Any]:
        """Stack q, k and v of the pooling, as in the original `SiglipModel` (see `expose`)."""
        import torch

        state = dict(state)
        for kind in ("weight", "bias"):
            parts = [state.pop(f"{POOLING}.{projection}.{kind}") for projection in PROJECTIONS]
            state[f"{POOLING}.in_proj_{kind}"] = torch.cat(parts)
        return state


def _odd_vision(document: Document) -> str | None:
    vision = document.vision
    tower = TIMM.get(vision["timm_model_name"])
    if tower is None or tower.image_size is None:
        return f"vision_cfg.timm_model_name {vision['timm_model_name']!r}"
    if vision["timm_pool"] != "map" or vision["timm_proj"] != "none":
        return f"vision_cfg.timm_pool {vision['timm_pool']!r} with timm_proj {vision['timm_proj']!r}"
    if document.image_size != (tower.image_size,) * 2:
        return f"vision_cfg.image_size {vision['image_size']!r} for timm's {vision['timm_model_name']}"
    if document.embed_dim != tower.width:
        return f"embed_dim {document.embed_dim} for an image tower of width {tower.width} that is not projected"
    return None if document.model.get("init_logit_bias") is not None else "no init_logit_bias"


def _odd_text(document: Document) -> str | None:
    text = document.text
    for key, value in _TEXT_SETTINGS.items():
        if text[key] != value:
            return f"text_cfg.{key} {text[key]!r} beside a SigLIP image tower"
    if text["act_kwargs"] not in (None, {"approximate": "tanh"}, {"approximate": "none"}):
        return f"text_cfg.act_kwargs {text['act_kwargs']!r}"
    if text["norm_kwargs"] and set(text["norm_kwargs"]) != {"eps"}:
        return f"text_cfg.norm_kwargs {text['norm_kwargs']!r}"
    return None
