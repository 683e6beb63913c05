"""The shapes that are measured, as data.

OpenAI's ViT-B/32 and ViT-L/14 (Radford et al., 2021), LAION's ViT-H/14 and ViT-bigG/14 (the configurations of
OpenCLIP, converted to Hugging Face layout).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tower:
    """One transformer: number of blocks, width, attention heads, width of the MLP's hidden layer."""

    layers: int
    width: int
    heads: int
    mlp: int

    def config(self) -> dict[str, int]:
        """The same in the words of `config.json`."""
        return {
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "intermediate_size": self.mlp,
        }


@dataclass(frozen=True)
class Architecture:
    """A CLIP for 224 x 224 images and texts of 77 tokens out of a vocabulary of 49,408."""

    label: str
    text: Tower
    image: Tower
    patch: int
    projection: int
    activation: str

    def config(self) -> dict[str, Any]:
        """`config.json` of a `transformers.CLIPModel`."""
        shared = {"hidden_act": self.activation, "projection_dim": self.projection}
        tokens = {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 49406, "eos_token_id": 49407}
        return {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": self.projection,
            "text_config": self.text.config() | shared | tokens | {"pad_token_id": 49407},
            "vision_config": self.image.config() | shared | {"patch_size": self.patch, "image_size": 224},
        }


ARCHITECTURES = {
    "b32": Architecture("ViT-B/32", Tower(12, 512, 8, 2048), Tower(12, 768, 12, 3072), 32, 512, "quick_gelu"),
    "l14": Architecture("ViT-L/14", Tower(12, 768, 12, 3072), Tower(24, 1024, 16, 4096), 14, 768, "quick_gelu"),
    "h14": Architecture("ViT-H/14", Tower(24, 1024, 16, 4096), Tower(32, 1280, 16, 5120), 14, 1024, "gelu"),
    "bigg": Architecture("ViT-bigG/14", Tower(32, 1280, 20, 5120), Tower(48, 1664, 16, 8192), 14, 1280, "gelu"),
}
