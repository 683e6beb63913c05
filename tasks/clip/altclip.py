"""AltCLIP (`model_type: altclip`): CLIP's vision transformer with an XLM-RoBERTa for text.

Chen et al., "AltCLIP: Altering the Language Encoder in CLIP for Extended Language Capabilities", 2022.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tasks.clip.base import InputSpec, Piece, text_inputs
from tasks.clip.hugging_face import ClipFamily

_CONTEXT = 77
"""The context of CLIP's text encoder, from which the model was distilled; XLM-RoBERTa itself takes 512 tokens."""
_STORED_BLOCK = re.compile(r"(?<=\.)layer(?=\.\d)")


class AltClip(ClipFamily):
    """Adapter for `transformers.AltCLIPModel`: its text attention is bidirectional, so padding must be masked."""

    name = "altclip"
    covers = "AltCLIP"
    known = ("BAAI/AltCLIP",)
    model_types = ("altclip",)
    architecture = "AltCLIP"

    def text_inputs(self, text: Any) -> tuple[InputSpec, ...]:
        """Token ids and their mask. Positions start after the padding token's id."""
        return text_inputs(min(_CONTEXT, text.max_position_embeddings - text.pad_token_id - 1), masked=True)

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> dict[str, Piece]:
        """Files have `encoder.layer.0`; transformers 5 names it `encoder.layers.0` (but writes the former)."""
        renamed = {_STORED_BLOCK.sub("layers", name): name for name in stored}
        return {name: Piece(old) for name, old in renamed.items() if name != old}
