"""CLIP in Hugging Face layout: OpenAI, LAION and DFN checkpoints (`model_type: clip`).

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.
"""

from __future__ import annotations

from typing import ClassVar

from tasks.clip.hugging_face import HuggingFaceFamily


class Clip(HuggingFaceFamily):
    """Adapter for `transformers.CLIPModel`. Causal text attention, end-token pooling, no attention mask needed."""

    name = "clip"
    model_types: ClassVar[tuple[str, ...]] = ("clip",)
    architecture = "CLIP"
