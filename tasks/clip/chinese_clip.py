"""ChineseCLIP (`model_type: chinese_clip`): CLIP's vision transformer with a BERT for text.

Yang et al., "Chinese CLIP: Contrastive Vision-Language Pretraining in Chinese", 2022.
"""

from __future__ import annotations

from typing import Any

from tasks.clip.base import InputSpec, text_inputs
from tasks.clip.hugging_face import ClipFamily

_CONTEXT = 52
"""The context that the model was trained with (`context_length` in the authors' code); BERT itself takes 512 tokens."""


class ChineseClip(ClipFamily):
    """Adapter for `transformers.ChineseCLIPModel`: its text attention is bidirectional, so padding must be masked."""

    name = "chinese_clip"
    covers = "ChineseCLIP"
    known = ("OFA-Sys/chinese-clip-vit-base-patch16",)
    model_types = ("chinese_clip",)
    architecture = "ChineseCLIP"

    def text_inputs(self, text: Any) -> tuple[InputSpec, ...]:
        """Token ids and their mask."""
        return text_inputs(min(_CONTEXT, text.max_position_embeddings), masked=True)
