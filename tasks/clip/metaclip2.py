"""MetaCLIP 2 (`model_type: metaclip_2`): CLIP's architecture with a multilingual vocabulary of 901,629 tokens.

Chuang et al., "MetaCLIP 2: A Worldwide Scaling Recipe", 2025.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tasks.clip.hugging_face import ClipFamily, stated_end


class MetaClip2(ClipFamily):
    """Adapter for `transformers.MetaClip2Model`: as CLIP, but the text is always pooled at its first end token."""

    name = "metaclip_2"
    covers = "MetaCLIP 2"
    known = ("facebook/metaclip-2-worldwide-huge-quickgelu",)
    model_types: ClassVar[tuple[str, ...]] = ("metaclip_2",)
    architecture = "MetaClip2"

    def end_token(self, config: dict[str, Any], tokenizer: Any) -> int | None:
        """`eos_token_id`."""
        del tokenizer
        return stated_end(self.full_config(config))
