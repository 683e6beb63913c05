"""CLIP in Hugging Face layout: OpenAI, LAION and DFN checkpoints (`model_type: clip`).

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tasks.clip.hugging_face import ClipFamily, stated_end

_OLD_END = 2


class Clip(ClipFamily):
    """Adapter for `transformers.CLIPModel`: causal text attention with end-token pooling, so no mask is needed."""

    name = "clip"
    covers = "OpenAI, LAION, DataComp, DFN, MetaCLIP and other CLIPModel checkpoints"
    known: ClassVar[tuple[str, ...]] = (
        "openai/clip-vit-base-patch32",
        "openai/clip-vit-large-patch14",
        "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        "facebook/metaclip-b32-400m",
    )
    model_types: ClassVar[tuple[str, ...]] = ("clip",)
    architecture = "CLIP"

    def pools_at_highest_id(self, config: dict[str, Any]) -> bool:
        """True if `eos_token_id` is 2, as in old configurations: see `CLIPTextTransformer` in transformers."""
        return bool(self.full_config(config).text_config.eos_token_id == _OLD_END)

    def end_token(self, config: dict[str, Any], tokenizer: Any) -> int | None:
        """`eos_token_id`; in old configurations it is 2, and means the largest id, that of the tokenizer's end."""
        if self.pools_at_highest_id(config):
            return tokenizer.eos_token_id
        return stated_end(self.full_config(config))
