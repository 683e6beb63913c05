"""The complete configuration of our towers for a document, and the settings in a document that they do not support."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from tasks.openclip.architectures import TEXT_ENCODERS, TIMM
from tasks.openclip.document import Document
from tasks.openclip.plain import activation_and_eps, layer_scaled, odd_size, transformer_sizes
from tasks.openclip.tokenizer import TOKENIZER_KEYS, odd_tokenizer

_SIZES = ("layers", "width", "mlp_ratio", "ls_init_value", "act_kwargs", "norm_kwargs")
_OWN_VISION = (
    *_SIZES,
    "image_size",
    "head_width",
    "patch_size",
    "no_ln_pre",
    "pool_type",
    "pos_embed_type",
    "final_ln_after_pool",
    "attentional_pool",
    "attn_pooler_queries",
    "attn_pooler_heads",
)
_UNUSED = ("layers", "width", "mlp_ratio", "patch_size", "head_width", "heads", "vocab_size")
"""Sizes of OpenCLIP's own towers, which have no effect if a named architecture determines the sizes."""
_TIMM_VISION = (*_UNUSED, "image_size", "timm_model_name", "timm_pool", "timm_proj", "timm_proj_bias")
_OWN_TEXT = (
    *_SIZES,
    *TOKENIZER_KEYS,
    "context_length",
    "vocab_size",
    "heads",
    "embed_cls",
    "pad_id",
    "eos_id",
    "no_causal_mask",
    "pool_type",
    "proj_bias",
    "proj_type",
)
_HF_TEXT = (*_UNUSED, *TOKENIZER_KEYS, "context_length", "hf_model_name", "hf_proj_type", "hf_pooler_type")
_TEXT_POOLS = {"argmax": "highest", "last": "last", "first": "first", "eos": "end"}
_HF_POOLS = {"mean_pooler": "mean", "cls_pooler": "pooler", "cls_last_hidden_state_pooler": "first"}
_TANH = {"approximate": "tanh"}
_OWNERS = ("", "FacebookAI", "google-bert", "microsoft")
"""Publishers of the encoders whose sizes are known; an encoder of the same name by others may differ."""


def why_not(document: Document) -> str | None:
    """The first setting that the towers do not support; None if they accept the model."""
    return next(_obstacles(document), None)


def _obstacles(document: Document) -> Iterator[str]:
    vision, text = document.vision, document.text
    named, encoder = vision["timm_model_name"], text["hf_model_name"]
    yield from _timm_obstacles(document) if named else _vision_obstacles(document)
    yield from _encoder_obstacles(document) if encoder else _text_obstacles(document)
    strange = document.strange(
        model=("multimodal_cfg",) if document.model.get("custom_text") or encoder else (),
        vision=_TIMM_VISION if named else _OWN_VISION,
        text=_HF_TEXT if encoder else _OWN_TEXT,
    )
    if strange is not None:
        yield strange
    yield from filter(None, (odd_size(document), odd_tokenizer(document)))


def _vision_obstacles(document: Document) -> Iterator[str]:
    vision = document.vision
    if vision["pool_type"] not in ("tok", "avg"):
        yield f"vision_cfg.pool_type {vision['pool_type']!r}"
    if vision["attentional_pool"] not in (True, False):
        yield f"vision_cfg.attentional_pool {vision['attentional_pool']!r}"
    if vision["attentional_pool"] and (vision["pool_type"] != "tok" or vision["norm_kwargs"]):
        yield "vision_cfg.attentional_pool with another pool_type or norm"
    yield from _kwargs_obstacles(document, "vision_cfg", vision)


def _timm_obstacles(document: Document) -> Iterator[str]:
    vision = document.vision
    architecture = TIMM.get(vision["timm_model_name"])
    if architecture is None:
        yield f"vision_cfg.timm_model_name {vision['timm_model_name']!r}"
        return
    outside = architecture.projected_outside and vision["timm_proj"] == "linear"
    pools = ("map",) if architecture.pool == "attention" else ("token", "", None) if outside else ("token",)
    if vision["timm_pool"] not in pools:
        yield f"vision_cfg.timm_pool {vision['timm_pool']!r}"
    projections = ("", "none", "linear") if architecture.projected_outside else ("", "none")
    if (vision["timm_proj"] or "") not in projections:
        yield f"vision_cfg.timm_proj {vision['timm_proj']!r}"
    if vision["timm_proj"] == "none" and architecture.width != document.embed_dim:
        yield f"vision_cfg.timm_proj 'none' at an embed_dim of {document.embed_dim}"


def _text_obstacles(document: Document) -> Iterator[str]:
    text = document.text
    if text["pool_type"] not in _TEXT_POOLS:
        yield f"text_cfg.pool_type {text['pool_type']!r}"
    if text["proj_type"] not in ("linear", "none"):
        yield f"text_cfg.proj_type {text['proj_type']!r}"
    if text["proj_type"] == "none" and text["width"] != document.embed_dim:
        yield f"text_cfg.proj_type 'none' at an embed_dim of {document.embed_dim}"
    if text["embed_cls"] and not document.model.get("custom_text"):
        yield "text_cfg.embed_cls without custom_text"
    yield from _kwargs_obstacles(document, "text_cfg", text)


def _kwargs_obstacles(document: Document, section: str, part: dict[str, Any]) -> Iterator[str]:
    if part["act_kwargs"] and (part["act_kwargs"] != _TANH or document.model.get("quick_gelu")):
        yield f"{section}.act_kwargs {part['act_kwargs']}"
    norm = part["norm_kwargs"]
    if norm and (set(norm) != {"eps"} or not isinstance(norm["eps"], float) or not norm["eps"] > 0):
        yield f"{section}.norm_kwargs {part['norm_kwargs']}"


def _encoder_obstacles(document: Document) -> Iterator[str]:
    text = document.text
    owner, _, name = text["hf_model_name"].rpartition("/")
    if name not in TEXT_ENCODERS or owner not in _OWNERS:
        yield f"text_cfg.hf_model_name {text['hf_model_name']!r}"
        return
    encoder = TEXT_ENCODERS[name]
    before = 0 if encoder["encoder"] == "bert" else encoder["pad_token_id"] + 1  # positions that are not used by tokens
    if text["context_length"] > encoder["max_position_embeddings"] - before:
        yield f"text_cfg.context_length {text['context_length']}, which {name} has no positions for"
    if text["hf_pooler_type"] not in _HF_POOLS:
        yield f"text_cfg.hf_pooler_type {text['hf_pooler_type']!r}"
    if text["hf_proj_type"] not in ("linear", "mlp"):
        yield f"text_cfg.hf_proj_type {text['hf_proj_type']!r}"


# --- the configuration -----------------------------------------------------------------------------------------------


def towers_config(document: Document) -> dict[str, Any]:
    """The configuration for a document that the towers accept (`why_not` gives None)."""
    vision, text = document.vision, document.text
    return {
        "projection_dim": document.embed_dim,
        "vision_config": _timm_vision(document) if vision["timm_model_name"] else _own_vision(document),
        "text_config": _encoder_text(text) if text["hf_model_name"] else _own_text(document),
    }


def _block(document: Document, part: dict[str, Any], heads: int) -> dict[str, Any]:
    return {
        **layer_scaled(part),
        **transformer_sizes(part, heads),
        **activation_and_eps(document, part),
        "norm_after": False,
        "key_bias": True,
        "inner_norm": False,
        "gated": False,
        "mlp_norm": False,
    }


def _own_vision(document: Document) -> dict[str, Any]:
    vision = document.vision
    attention = vision["attentional_pool"]
    after = attention or vision["pool_type"] == "tok" or vision["final_ln_after_pool"]
    return _block(document, vision, vision["width"] // vision["head_width"]) | {
        "image_size": document.image_size[0],
        "patch_size": vision["patch_size"],
        "patch_bias": False,
        "stem": None,
        "pre_norm": not vision["no_ln_pre"],
        "class_token": True,
        "class_position": True,
        "rotary": None,
        "norm": "pooled" if after else "tokens",
        "pool": "attention" if attention else {"tok": "class", "avg": "mean"}[vision["pool_type"]],
        "pool_width": document.embed_dim if attention else vision["width"],
        "pool_heads": vision["attn_pooler_heads"],
        "pool_norms": True,
        "pool_mlp_width": None,
        "pool_act": None,
        "projection": "plain",
    }


def _timm_vision(document: Document) -> dict[str, Any]:
    vision = document.vision
    made = TIMM[vision["timm_model_name"]]
    biased = not vision["timm_proj"] or vision["timm_proj_bias"]
    stem = {"channels": [c for c, _ in made.stem], "strides": [s for _, s in made.stem]} if made.stem else None
    return {
        "hidden_size": made.width,
        "intermediate_size": made.mlp_width,
        "num_hidden_layers": made.layers,
        "num_attention_heads": made.heads,
        "hidden_act": "silu" if made.gated else made.activation,
        "layer_norm_eps": made.eps,
        "norm_after": made.norm_after,
        "key_bias": made.key_bias,
        "inner_norm": made.inner_norm,
        "gated": made.gated,
        "mlp_norm": made.mlp_norm,
        "image_size": document.image_size[0],
        "patch_size": made.patch,
        "patch_bias": made.patch_bias,
        "stem": stem,
        "pre_norm": made.pre_norm,
        "class_token": made.class_token,
        "class_position": made.class_position,
        "rotary": None if made.rotary is None else dataclasses.asdict(made.rotary),
        "norm": "tokens" if made.pool == "attention" else "pooled",
        "pool": made.pool,
        "pool_width": made.width,
        "pool_heads": made.pool_heads,
        "pool_norms": False,
        "pool_mlp_width": made.pool_mlp_width,
        "pool_act": made.activation,
        "projection": None if vision["timm_proj"] == "none" else "biased" if biased else "plain",
    }


def _own_text(document: Document) -> dict[str, Any]:
    text = document.text
    projection = "biased" if text["proj_bias"] else "plain"
    return _block(document, text, text["heads"]) | {
        "encoder": "openclip",
        "vocab_size": text["vocab_size"],
        "context_length": text["context_length"],
        "causal": not text["no_causal_mask"],
        "class_token": bool(text["embed_cls"]),
        "pool": "last" if text["embed_cls"] else _TEXT_POOLS[text["pool_type"]],
        "eos_token_id": text["eos_id"],
        "pad_token_id": text["pad_id"],
        "blank_padding": not text["hf_tokenizer_name"] and bool(text["no_causal_mask"] or text["embed_cls"]),
        "projection": None if text["proj_type"] == "none" else projection,
    }


def _encoder_text(text: dict[str, Any]) -> dict[str, Any]:
    return TEXT_ENCODERS[text["hf_model_name"].rpartition("/")[2]] | {
        "context_length": text["context_length"],
        "pool": _HF_POOLS[text["hf_pooler_type"]],
        "projection": text["hf_proj_type"],
    }
