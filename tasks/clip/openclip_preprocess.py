"""How OpenCLIP prepares pictures, in the words of transformers' image processors."""

from __future__ import annotations

from typing import Any

from tasks.clip.openclip_document import Document, refusal

_OPENAI_MEAN = [0.48145466, 0.4578275, 0.40821073]
_OPENAI_STD = [0.26862954, 0.26130258, 0.27577711]
_RESAMPLE = {"bicubic": 3, "bilinear": 2}
"""Pillow's numbers."""


def image_settings(document: Document) -> dict[str, Any]:
    """The arguments of CLIP's image processor for a document's `preprocess_cfg`.

    Raises:
        UnsupportedVariant: a way to resize that it does not have.
    """
    settings = document.preprocess
    height, width = document.image_size
    mode = settings.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash"):
        raise refusal(document, f"has resize_mode {mode!r}")
    interpolation = settings.get("interpolation") or "bicubic"
    if interpolation not in _RESAMPLE:
        raise refusal(document, f"has interpolation {interpolation!r}")
    squash = mode == "squash"
    return {
        "size": {"height": height, "width": width} if squash else {"shortest_edge": height},
        "crop_size": {"height": height, "width": width},
        "do_center_crop": not squash,
        "resample": _RESAMPLE[interpolation],
        "image_mean": list(settings.get("mean") or _OPENAI_MEAN),
        "image_std": list(settings.get("std") or _OPENAI_STD),
        "do_convert_rgb": True,
    }
