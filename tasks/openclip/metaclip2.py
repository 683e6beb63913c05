"""MetaCLIP 2 "worldwide" in OpenCLIP's layout: CLIP with a multilingual vocabulary, pooled at its end token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.clip.base import Piece
from tasks.clip.metaclip2 import MetaClip2
from tasks.openclip.document import Document
from tasks.openclip.kind import OpenClipKind
from tasks.openclip.plain import TEXT_KEYS, VISION_KEYS, odd_size, plain_config, plain_pieces
from tasks.openclip.tokenizer import TOKENIZER_KEYS, odd_tokenizer


class OpenClipMetaClip2(OpenClipKind, MetaClip2):
    """Adapter for OpenCLIP's files of MetaCLIP 2, which run as `transformers.MetaClip2Model`."""

    name = "openclip_metaclip2"
    covers = "OpenCLIP layout: MetaCLIP 2"
    known = ("ViT-H-14-worldwide",)
    model_types: ClassVar[tuple[str, ...]] = ()

    def looks_like(self, document: Document) -> bool:
        """True if both towers are OpenCLIP's own, and the text is pooled at an end token."""
        own = not document.vision["timm_model_name"] and not document.text["hf_model_name"]
        return own and document.text["pool_type"] == "eos"

    def why_not(self, document: Document) -> str | None:
        """Another pooling of the text, or any setting other than sizes."""
        strange = document.strange(vision=VISION_KEYS, text=(*TEXT_KEYS, *TOKENIZER_KEYS, "pool_type", "eos_id"))
        if strange is None and document.text["pool_type"] != "eos":
            strange = f"text_cfg.pool_type {document.text['pool_type']!r}"
        return strange or odd_size(document) or odd_tokenizer(document)

    def read(self, document: Document) -> dict[str, Any]:
        """The configuration in the form of MetaCLIP 2's `config.json`."""
        config = plain_config(document)
        text = config["text_config"] | {"eos_token_id": document.text["eos_id"]}
        return config | {"model_type": "metaclip_2", "text_config": text}

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> Mapping[str, Piece | None]:
        """Every parameter by MetaCLIP 2's names, which are CLIP's."""
        return plain_pieces(stored)
