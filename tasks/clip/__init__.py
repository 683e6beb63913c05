"""CLIP families behind one registry: adding a family is one module here and one line below."""

from __future__ import annotations

from typing import Any

from artifacts.errors import MissingEncoder, NotClip
from tasks.clip.base import ENCODERS, ClipFamily, EncoderSpec, InputSpec
from tasks.clip.clip import Clip

__all__ = ["ENCODERS", "FAMILIES", "ClipFamily", "EncoderSpec", "InputSpec", "family_for", "family_named"]

FAMILIES: tuple[ClipFamily, ...] = (Clip(),)

_ONE_ENCODER = {
    "clip_text_model": "image",
    "clip_vision_model": "text",
    "siglip_text_model": "image",
    "siglip_vision_model": "text",
}


def family_named(name: str) -> ClipFamily:
    """The adapter called `name`; KeyError when there is none."""
    return {family.name: family for family in FAMILIES}[name]


def family_for(config: dict[str, Any], *, where: object) -> ClipFamily:
    """The adapter for a checkpoint's `config.json`.

    Raises:
        MissingEncoder: a text-only or vision-only model; the message names the missing encoder.
        NotClip: anything else that no adapter knows.
    """
    model_type = config.get("model_type")
    for family in FAMILIES:
        if model_type in family.model_types:
            for encoder, section in (("text", "text_config"), ("image", "vision_config")):
                if not isinstance(config.get(section), dict):
                    raise _missing(encoder, f"config.json has no {section}", where)
            return family
    if isinstance(model_type, str) and model_type in _ONE_ENCODER:
        raise _missing(_ONE_ENCODER[model_type], f"model_type is {model_type!r}", where)
    known = ", ".join(sorted(kind for family in FAMILIES for kind in family.model_types))
    raise NotClip(
        f"not a CLIP model: model_type is {model_type!r}",
        where=where,
        expected=f"a two-encoder checkpoint with model_type one of: {known}",
        fix="give a CLIP checkpoint in Hugging Face layout",
    )


def _missing(encoder: str, why: str, where: object) -> MissingEncoder:
    return MissingEncoder(
        f"the checkpoint has no {encoder} encoder: {why}",
        where=where,
        expected="a two-encoder CLIP checkpoint",
        fix="give the full model, not one of its halves",
    )
