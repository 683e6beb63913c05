"""OpenCLIP's preprocessing of pictures, expressed as settings of transformers' image processors."""

from __future__ import annotations

from typing import Any

from tasks.openclip.document import Document

_OPENAI_MEAN = [0.48145466, 0.4578275, 0.40821073]
_OPENAI_STD = [0.26862954, 0.26130258, 0.27577711]
_RESAMPLE = {"bicubic": 3, "bilinear": 2, "random": 3}
"""Pillow's numbers of resampling filters; `random`, for training, is bicubic in evaluation."""
_KNOWN = frozenset(
    ("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color", "hf_hub", "url", "tag")
)
"""OpenCLIP's settings of preprocessing, and keys that some of its published files have in addition."""
_MODES = ("shortest", "squash")


def odd_preprocess(document: Document) -> str | None:
    """The first preprocessing setting that transformers' image processor does not support; None if it supports all.

    For example `longest`, which pads the picture with a colour before normalisation.
    """
    settings = document.preprocess
    for key in sorted(settings.keys() - _KNOWN):
        if settings[key] is not None:
            return f"preprocess_cfg.{key} {settings[key]!r}"
    for key, known in (("resize_mode", _MODES), ("interpolation", tuple(_RESAMPLE)), ("mode", ("RGB",))):
        value = settings.get(key)
        if value is not None and value not in known:
            return f"preprocess_cfg.{key} {value!r}"
    return None


def image_settings(document: Document) -> dict[str, Any]:
    """The arguments of CLIP's image processor for a document's `preprocess_cfg`; OpenCLIP's defaults are OpenAI's.

    Pictures get the size of the image tower; the size in `preprocess_cfg` is ignored.
    """
    settings = document.preprocess
    height, width = document.image_size
    squash = settings.get("resize_mode") == "squash"
    return {
        "size": {"height": height, "width": width} if squash else {"shortest_edge": height},
        "crop_size": {"height": height, "width": width},
        "do_center_crop": not squash,
        "resample": _RESAMPLE[settings.get("interpolation") or "bicubic"],
        "image_mean": _channels(settings.get("mean") or _OPENAI_MEAN),
        "image_std": _channels(settings.get("std") or _OPENAI_STD),
        "do_convert_rgb": True,
    }


def _channels(value: float | list[float]) -> list[float]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * 3
