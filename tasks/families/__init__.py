"""The registry of all families: adding one is one module in `tasks/clip` and one line here."""

from __future__ import annotations

import re
from typing import Any

from artifacts.errors import MissingEncoder, NotClip, UnsupportedVariant
from tasks.clip.altclip import AltClip
from tasks.clip.chinese_clip import ChineseClip
from tasks.clip.clip import Clip
from tasks.clip.hugging_face import ClipFamily
from tasks.clip.metaclip2 import MetaClip2
from tasks.clip.siglip import Siglip
from tasks.clip.siglip2 import Siglip2
from tasks.openclip import KINDS

FAMILIES: tuple[ClipFamily, ...] = (Clip(), MetaClip2(), Siglip(), Siglip2(), ChineseClip(), AltClip(), *KINDS)

_SECTIONS = ("text_config", "vision_config")
_ONE_TOWER = re.compile(r"\w+(?:For[A-Z]\w+|SafetyChecker)")
"""Names of classes that have a family's model type but only one encoder: classifiers, detectors, safety checkers."""
_HALVES = {"text_model": "image", "vision_model": "text"}


def family_named(name: str) -> ClipFamily:
    """The family called `name`; KeyError if there is none."""
    return {family.name: family for family in FAMILIES}[name]


def family_for(config: dict[str, Any], *, where: object) -> ClipFamily:
    """The family of a checkpoint's `config.json`.

    Raises:
        MissingEncoder: a text-only or vision-only model; the message names the missing encoder.
        UnsupportedVariant: it has a family's model type, but describes another kind of model.
        NotClip: anything else that no family accepts.
    """
    model_type = config.get("model_type")
    for family in FAMILIES:
        if model_type in family.model_types:
            _refuse_other_classes(config, where)
            for encoder, section in (("text", "text_config"), ("image", "vision_config")):
                old_name = f"{section}_dict" if family.repeats_sections else section
                if not any(isinstance(config.get(key), dict) for key in (section, old_name)):
                    raise _missing(encoder, f"config.json has no {section}", where)
            return family
    for kind in (kind for family in FAMILIES for kind in family.model_types):
        for half, missing in _HALVES.items():
            if model_type == f"{kind}_{half}":
                raise _missing(missing, f"model_type is {model_type!r}", where)
    if model_type is None and isinstance(config.get("architecture"), str) and "num_classes" in config:
        raise _missing("text", f"config.json is timm's, of the image encoder {config['architecture']} alone", where)
    known = ", ".join(sorted(kind for family in FAMILIES for kind in family.model_types))
    raise NotClip(
        f"not a CLIP model: model_type is {model_type!r}",
        where=where,
        expected=f"a two-encoder checkpoint with model_type one of: {known}",
        fix="give a CLIP checkpoint in Hugging Face layout",
    )


def _refuse_other_classes(config: dict[str, Any], where: object) -> None:
    """Refuse a file that has a family's model type but describes another kind of model.

    Raises:
        UnsupportedVariant: it does.
    """
    named = config.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    other = next((name for name in names if _ONE_TOWER.fullmatch(name)), None)
    code = config.get("auto_map")
    if other is None and isinstance(code, dict) and not any(isinstance(config.get(key), dict) for key in _SECTIONS):
        other = f"code of its own, {next(iter(code.values()), '')}"
    if other is not None:
        raise UnsupportedVariant(
            f"config.json is that of {other}",
            where=where,
            expected="a two-encoder model that transformers has a class for, or OpenCLIP's files",
            fix="give the CLIP checkpoint that it was made from; `clipsmith models` lists what goes through",
        )


def _missing(encoder: str, why: str, where: object) -> MissingEncoder:
    return MissingEncoder(
        f"the checkpoint has no {encoder} encoder: {why}",
        where=where,
        expected="a two-encoder CLIP checkpoint",
        fix="give the full model, not one of its halves",
    )
