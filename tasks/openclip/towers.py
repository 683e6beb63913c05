"""Models in OpenCLIP's layout that transformers has no class for, composed of our own towers.

Any image tower (OpenCLIP's with its options, EVA, Perception Encoder, MobileCLIP's and timm's plain vision transformer)
can be combined with any text tower (OpenCLIP's with its options, BERT, RoBERTa, XLM-RoBERTa).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from artifacts.manifest import Encoder
from tasks.clip.base import EncoderSpec, InputSpec, Piece, text_inputs
from tasks.openclip.document import Document
from tasks.openclip.kind import OpenClipKind
from tasks.openclip.names import find_pieces
from tasks.openclip.towers_config import towers_config, why_not
from tasks.towers import MODEL_TYPE

_KEYS = ("projection_dim", "vision_config", "text_config")
_NO_PARAMETERS = re.compile(r"logit_scale|logit_bias|text_decoder\..*|.*\.(?:position_ids|num_batches_tracked)")
"""Tensors that are not used: those of the loss and of CoCa's caption decoder, and buffers that are computed again."""


class OpenClipTowers(OpenClipKind):
    """Adapter for `tasks.towers.model.OpenClipTowersModel`."""

    name = "openclip_towers"
    covers = "OpenCLIP layout: EVA-CLIP, PE-Core, CLIPA, CoCa, MobileCLIP (ViT), BERT and RoBERTa text"
    known: ClassVar[tuple[str, ...]] = (
        "EVA02-L-14",
        "PE-Core-L-14-336",
        "ViT-L-14-CLIPA",
        "coca_ViT-L-14",
        "MobileCLIP-B",
        "xlm-roberta-large-ViT-H-14",
    )
    model_types: ClassVar[tuple[str, ...]] = (MODEL_TYPE,)
    repeats_sections = False
    prefixes: ClassVar[Mapping[Encoder, tuple[str, ...]]] = {"image": ("vision_model.",), "text": ("text_model.",)}

    def looks_like(self, document: Document) -> bool:
        """True unless the document looks like SigLIP, whose own kind gives better reasons."""
        return "siglip" not in str(document.vision["timm_model_name"])

    def why_not(self, document: Document) -> str | None:
        """A setting, or a name of an architecture, that the towers do not support."""
        return why_not(document)

    def read(self, document: Document) -> dict[str, Any]:
        """The configuration with both sections complete, so that no name has to be looked up again."""
        return towers_config(document) | {"model_type": MODEL_TYPE}

    def resolve_config(self, stored: dict[str, Any]) -> dict[str, Any]:
        """The sections unchanged, without keys that transformers adds when saving."""
        return {"model_type": MODEL_TYPE} | {key: copy.deepcopy(stored[key]) for key in _KEYS}

    def full_config(self, config: dict[str, Any]) -> Any:
        """The configuration as an `OpenClipTowersConfig`."""
        from tasks.towers.model import OpenClipTowersConfig

        return OpenClipTowersConfig(**{key: copy.deepcopy(config[key]) for key in _KEYS})

    def _model_class(self) -> Any:
        from tasks.towers.model import OpenClipTowersModel

        return OpenClipTowersModel

    def encoder_spec(self, config: dict[str, Any], encoder: Encoder) -> EncoderSpec:
        """As for other families; text encoders that are transformers' own also take a padding mask."""
        part = config["vision_config" if encoder == "image" else "text_config"]
        if encoder == "image":
            side = part["image_size"]
            inputs: tuple[InputSpec, ...] = (InputSpec("pixel_values", "float16", (3, side, side)),)
        else:
            inputs = text_inputs(part["context_length"], masked=part["encoder"] != "openclip")
        return EncoderSpec(
            encoder=encoder,
            inputs=inputs,
            output=f"{encoder}_embeds",
            layers=part["num_hidden_layers"],
            hidden_size=part["hidden_size"],
            heads=part["num_attention_heads"],
            embedding_dim=config["projection_dim"],
            prefixes=self.prefixes[encoder],
        )

    def vocabulary(self, config: dict[str, Any]) -> int:
        """`vocab_size` of the text tower."""
        size: int = config["text_config"]["vocab_size"]
        return size

    def end_token(self, config: dict[str, Any], tokenizer: Any) -> int | None:
        """The token at which OpenCLIP's text tower pools: the one with the largest id, or `eos_token_id`."""
        part = config["text_config"]
        if part["pool"] == "highest":
            end: int = tokenizer.eos_token_id
            return end
        return part["eos_token_id"] if part["pool"] == "end" else None

    def pools_at_highest_id(self, config: dict[str, Any]) -> bool:
        """True for OpenCLIP's text tower, unless its configuration sets another pooling."""
        return bool(config["text_config"]["pool"] == "highest")

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> Mapping[str, Piece | None]:
        """Every parameter, by OpenCLIP's and timm's names; none is renamed in a folder that transformers wrote."""
        if any(name.startswith("vision_model.") for name in stored):
            return {}
        unused = {name: None for name in stored if _NO_PARAMETERS.fullmatch(name)}
        return find_pieces({name: shape for name, shape in stored.items() if name not in unused}) | unused

    def encode(self, model: Any, encoder: Encoder, *inputs: Any) -> Any:
        """Projected, not normalised embeddings, (batch, embedding_dim)."""
        features: Any = model.get_image_features if encoder == "image" else model.get_text_features
        return features(*inputs)
