"""SigLIP, and SigLIP 2 at a fixed resolution, which is the same model with another vocabulary (`model_type: siglip`).

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023; Tschannen et al., "SigLIP 2", 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.errors import UnsupportedVariant
from artifacts.manifest import Encoder
from tasks.clip.base import PROJECTIONS, Piece, stacked
from tasks.clip.hugging_face import ClipFamily

if TYPE_CHECKING:
    from torch import nn

_STACKED = ("in_proj_weight", "in_proj_bias")
POOLING = "vision_model.head.attention"
"""The pooling attention, an `nn.MultiheadAttention`, whose stacked weights quantizers cannot reach."""


class Siglip(ClipFamily):
    """Adapter for `transformers.SiglipModel`: images use attention pooling, and texts attend to padding, as trained."""

    name = "siglip"
    covers = "SigLIP, and SigLIP 2 at a fixed resolution"
    known: ClassVar[tuple[str, ...]] = (
        "google/siglip-base-patch16-224",
        "google/siglip-so400m-patch14-384",
        "google/siglip2-base-patch16-224",
    )
    model_types: ClassVar[tuple[str, ...]] = ("siglip",)
    architecture = "Siglip"
    repeats_sections = False
    attends_to_padding = True
    prefixes: ClassVar[Mapping[Encoder, tuple[str, ...]]] = {"image": ("vision_model.",), "text": ("text_model.",)}

    def full_config(self, config: dict[str, Any]) -> Any:
        """As for other families.

        Raises:
            UnsupportedVariant: there is no pooling head, and so no image embedding.
        """
        full = super().full_config(config)
        if not getattr(full.vision_config, "vision_use_head", True):
            raise UnsupportedVariant(
                "the SigLIP vision encoder has no pooling head",
                where="vision_config of config.json",
                expected="vision_use_head: true",
                fix="use a checkpoint that was trained with its head",
            )
        return full

    def embedding_dim(self, full: Any, encoder: Encoder) -> int:
        """The image encoder has no projection, so it is its width; the text encoder's is `projection_size`."""
        if encoder == "image":
            return full.vision_config.hidden_size
        return full.text_config.projection_size or full.text_config.hidden_size

    def expose(self, model: nn.Module) -> None:
        """Replace the pooling attention by `nn.Linear` layers and two plain matrix products."""
        from tasks.clip.pooling import PoolingAttention

        head: Any = model.get_submodule(POOLING.rpartition(".")[0])
        head.attention = PoolingAttention(head.attention, model.get_submodule("vision_model").config)

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> Mapping[str, Piece | None]:
        """q, k and v of the pooling attention are thirds of one stored tensor."""
        pieces: dict[str, Piece | None] = {}
        for stack in _STACKED:
            name = f"{POOLING}.{stack}"
            if name in stored:
                kind = stack.removeprefix("in_proj_")
                pieces |= stacked(name, stored[name], [f"{POOLING}.{each}.{kind}" for each in PROJECTIONS])
        return pieces
