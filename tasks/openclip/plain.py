"""Plain CLIP models in OpenCLIP's layout: a plain vision transformer with class token, and a causal text transformer.

The architecture is CLIP's, so the settings are translated, and the tensors are read under CLIP's names.
Layout: https://github.com/mlfoundations/open_clip (`src/open_clip/model.py`, `transformer.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.clip.base import Piece
from tasks.clip.clip import Clip
from tasks.openclip.document import Document
from tasks.openclip.kind import LAYER_SCALE, OpenClipKind
from tasks.openclip.names import as_transformers, find_pieces
from tasks.openclip.tokenizer import odd_tokenizer

VISION_KEYS = ("image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "ls_init_value")
TEXT_KEYS = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "ls_init_value")
_EPS = 1e-5
"""The epsilon of layer norms: PyTorch's default, which OpenCLIP does not change."""
_LARGEST_ID = 2
"""With this `eos_token_id` transformers' CLIP pools the text at its largest id, as OpenCLIP does."""

CLIP_NAMES = {
    "vision_model.class_embedding": "vision_model.embeddings.class_embedding",
    "vision_model.patch_embedding": "vision_model.embeddings.patch_embedding",
    "vision_model.positions": "vision_model.embeddings.position_embedding.weight",
    "vision_model.pre_norm": "vision_model.pre_layrnorm",
    "vision_model.norm": "vision_model.post_layernorm",
    "vision_model.projection": "visual_projection",
    "text_model.token_embedding": "text_model.embeddings.token_embedding",
    "text_model.positions": "text_model.embeddings.position_embedding.weight",
    "text_model.norm": "text_model.final_layer_norm",
    "text_model.projection": "text_projection",
}
"""The names of our towers' parameters outside the blocks, in transformers' CLIP."""


class OpenClip(OpenClipKind, Clip):
    """Adapter for OpenCLIP's files of plain CLIP models: plain vision transformer, causal text."""

    name = "openclip"
    covers = "OpenCLIP layout: plain CLIP"
    known: ClassVar[tuple[str, ...]] = ("ViT-B-32", "ViT-L-14", "ViT-H-14", "ViT-bigG-14")
    model_types: ClassVar[tuple[str, ...]] = ()

    def looks_like(self, document: Document) -> bool:
        """True if both towers are OpenCLIP's own."""
        return not document.vision["timm_model_name"] and not document.text["hf_model_name"]

    def why_not(self, document: Document) -> str | None:
        """Any setting other than sizes."""
        return (
            document.strange(vision=VISION_KEYS, text=(*TEXT_KEYS, "tokenizer_kwargs"))
            or odd_size(document)
            or odd_tokenizer(document)
        )

    def read(self, document: Document) -> dict[str, Any]:
        """The configuration in the form of CLIP's `config.json`."""
        return plain_config(document) | {"model_type": "clip"}

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> Mapping[str, Piece | None]:
        """Every parameter by CLIP's names; `logit_bias` is not used."""
        return plain_pieces(stored)


def plain_pieces(stored: Mapping[str, tuple[int, ...]]) -> Mapping[str, Piece | None]:
    """The pieces of CLIP's parameters; `logit_scale` may have an axis of length 1 in files; `logit_bias` is unused."""
    loss = {"logit_scale": Piece("logit_scale", shape=()), "logit_bias": None}
    return as_transformers(find_pieces(stored), CLIP_NAMES) | {name: loss[name] for name in loss.keys() & stored.keys()}


def odd_size(document: Document) -> str | None:
    """The image size if it is not square, which no tower supports; None for a square."""
    height, width = document.image_size
    return None if height == width else f"vision_cfg.image_size {[height, width]}, which is no square"


def plain_config(document: Document) -> dict[str, Any]:
    """The configuration of OpenCLIP's own two towers, with CLIP's names."""
    vision, text = document.vision, document.text
    shared = {"hidden_act": document.activation, "projection_dim": document.embed_dim}
    return {
        "projection_dim": document.embed_dim,
        "vision_config": shared
        | layer_scaled(vision)
        | transformer_sizes(vision, vision["width"] // vision["head_width"])
        | {"image_size": document.image_size[0], "patch_size": vision["patch_size"]},
        "text_config": shared | text_sizes(text) | {"eos_token_id": _LARGEST_ID},
    }


def text_sizes(text: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of OpenCLIP's own text tower, with transformers' names."""
    sizes = layer_scaled(text) | transformer_sizes(text, text["heads"])
    return sizes | {"max_position_embeddings": text["context_length"], "vocab_size": text["vocab_size"]}


def layer_scaled(part: Mapping[str, Any]) -> dict[str, Any]:
    """`{LAYER_SCALE: True}` for one of OpenCLIP's own towers whose blocks have a layer scale; else empty."""
    return {LAYER_SCALE: True} if part["ls_init_value"] is not None else {}


def transformer_sizes(part: Mapping[str, Any], heads: int) -> dict[str, Any]:
    """The sizes of one of OpenCLIP's own transformers, with transformers' names."""
    return {
        "hidden_size": part["width"],
        "intermediate_size": int(part["width"] * part["mlp_ratio"]),
        "num_hidden_layers": part["layers"],
        "num_attention_heads": heads,
    }


def activation_and_eps(document: Document, part: Mapping[str, Any]) -> dict[str, Any]:
    """The activation and the norms' epsilon of one of OpenCLIP's own transformers, with transformers' names."""
    approximate = (part["act_kwargs"] or {}).get("approximate") == "tanh"
    return {
        "hidden_act": "gelu_pytorch_tanh" if approximate else document.activation,
        "layer_norm_eps": (part["norm_kwargs"] or {}).get("eps", _EPS),
    }
