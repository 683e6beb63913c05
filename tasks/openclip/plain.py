"""Models in OpenCLIP's layout that are CLIP: a plain vision transformer with class token, causal text.

The architecture is CLIP's, so the settings are translated and the state dict is read under CLIP's names, piece by
piece. Layout: https://github.com/mlfoundations/open_clip (`src/open_clip/model.py`, `transformer.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tasks.clip.base import Piece
from tasks.clip.clip import Clip
from tasks.openclip.document import Document
from tasks.openclip.kind import LAYER_SCALE, OpenClipFiles
from tasks.openclip.tokenizer import odd_tokenizer

VISION_KEYS = ("image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "ls_init_value")
TEXT_KEYS = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "ls_init_value")
_LARGEST_ID = 2
"""With this `eos_token_id` transformers' CLIP pools the text at its largest id, as OpenCLIP does."""

_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OUTSIDE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
_SCALES = {"attn.out_proj": "ls_1.gamma", "mlp.c_proj": "ls_2.gamma"}
_TRANSPOSED = ("visual.proj", "text_projection")
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
_STACK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")


class OpenClip(OpenClipFiles, Clip):
    """Adapter for OpenCLIP's own files of models that are CLIP: plain vision transformer, causal text."""

    name = "openclip"
    covers = "OpenCLIP layout: plain CLIP"
    known: ClassVar[tuple[str, ...]] = (
        "ViT-B-32",
        "ViT-L-14",
        "ViT-H-14",
        "ViT-bigG-14",
    )
    model_types: ClassVar[tuple[str, ...]] = ()

    def looks_like(self, document: Document) -> bool:
        """Both towers are OpenCLIP's own."""
        return not document.vision["timm_model_name"] and not document.text["hf_model_name"]

    def why_not(self, document: Document) -> str | None:
        """Any setting beyond sizes."""
        return (
            document.strange(vision=VISION_KEYS, text=(*TEXT_KEYS, "tokenizer_kwargs"))
            or odd_size(document)
            or odd_tokenizer(document)
        )

    def read(self, document: Document, folder: Path) -> dict[str, Any]:
        """In the form of CLIP's `config.json`."""
        del folder
        return plain_config(document) | {"model_type": "clip"}

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> Mapping[str, Piece | None]:
        """Every parameter under CLIP's name; there is no `logit_bias`."""
        return plain_pieces(stored)


def plain_pieces(stored: Mapping[str, tuple[int, ...]]) -> dict[str, Piece | None]:
    """Where the parameters of CLIP's class are; `logit_scale` may have an axis of its own, `logit_bias` has no use."""
    pieces: dict[str, Piece | None] = {**layer_pieces(stored)}
    for name in stored:
        plain = name.removeprefix("text.")
        if plain in _OUTSIDE:
            pieces[_OUTSIDE[plain]] = Piece(name, transposed=plain in _TRANSPOSED)
        elif name == "logit_scale":
            pieces[name] = Piece(name, shape=())
        elif name == "logit_bias":
            pieces[name] = None
    return pieces


def layer_pieces(stored: Mapping[str, tuple[int, ...]]) -> dict[str, Piece]:
    """The parameters of the blocks of OpenCLIP's own towers under the names of transformers' CLIP.

    Models with `custom_text` keep their text encoder under `text.`. q, k and v are thirds of one stack. A layer scale
    (`ls_1.gamma`) multiplies what a projection gives: it becomes part of that projection.
    """
    pieces: dict[str, Piece] = {}
    for name, shape in stored.items():
        plain = name.removeprefix("text.")
        if match := _STACK.fullmatch(plain):
            size = shape[0] // 3
            for index, projection in enumerate(("q_proj", "k_proj", "v_proj")):
                target = f"{_layer(match[1], match[2])}.self_attn.{projection}.{match[3]}"
                pieces[target] = Piece(name, rows=(index * size, (index + 1) * size))
        elif (match := _BLOCK.fullmatch(plain)) and match[3] in _IN_BLOCK:
            gamma = f"{name[: match.start(3) - len(plain)]}{_SCALES.get(match[3])}"
            target = f"{_layer(match[1], match[2])}.{_IN_BLOCK[match[3]]}.{match[4]}"
            pieces[target] = Piece(name, scale=gamma if gamma in stored else None)
    return pieces


def _layer(visual: str | None, index: str) -> str:
    return f"{'vision_model' if visual else 'text_model'}.encoder.layers.{index}"


def odd_size(document: Document) -> str | None:
    """What transformers' class has no room for: an image that is no square."""
    height, width = document.image_size
    return None if height == width else f"vision_cfg.image_size {[height, width]}, which is no square"


def plain_config(document: Document) -> dict[str, Any]:
    """The sizes of two towers of OpenCLIP's own, under CLIP's names."""
    vision, text = document.vision, document.text
    shared = {"hidden_act": document.activation, "projection_dim": document.embed_dim}
    return {
        "projection_dim": document.embed_dim,
        "vision_config": shared
        | layer_scaled(vision)
        | _transformer(vision, vision["width"] // vision["head_width"])
        | {"image_size": document.image_size[0], "patch_size": vision["patch_size"]},
        "text_config": shared | text_sizes(text) | {"eos_token_id": _LARGEST_ID},
    }


def text_sizes(text: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a text tower of OpenCLIP's own, in the words of transformers' configurations."""
    sizes = layer_scaled(text) | _transformer(text, text["heads"])
    return sizes | {"max_position_embeddings": text["context_length"], "vocab_size": text["vocab_size"]}


def layer_scaled(part: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the blocks of one of OpenCLIP's own towers have a layer scale, if they do."""
    return {LAYER_SCALE: True} if part["ls_init_value"] is not None else {}


def _transformer(part: Mapping[str, Any], heads: int) -> dict[str, Any]:
    return {
        "hidden_size": part["width"],
        "intermediate_size": int(part["width"] * part["mlp_ratio"]),
        "num_hidden_layers": part["layers"],
        "num_attention_heads": heads,
    }
