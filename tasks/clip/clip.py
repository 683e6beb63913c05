"""CLIP in Hugging Face layout: OpenAI, LAION and DFN checkpoints (`model_type: clip`).

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.manifest import Encoder
from tasks.clip.base import EncoderSpec, InputSpec

if TYPE_CHECKING:
    from torch import nn


class Clip:
    """Adapter for `transformers.CLIPModel`. Causal text attention, end-token pooling, no attention mask needed."""

    name = "clip"
    model_types = ("clip",)

    def encoder_spec(self, config: dict[str, Any], encoder: Encoder) -> EncoderSpec:
        """Shapes from `config.json`, with transformers' defaults for what it leaves out."""
        from transformers import CLIPConfig

        full = CLIPConfig.from_dict(config)
        if encoder == "image":
            side = full.vision_config.image_size
            part, pixel = full.vision_config, InputSpec("pixel_values", "float16", (3, side, side))
            return EncoderSpec(
                encoder=encoder,
                inputs=(pixel,),
                output="image_embeds",
                layers=part.num_hidden_layers,
                hidden_size=part.hidden_size,
                heads=part.num_attention_heads,
                embedding_dim=full.projection_dim,
                prefixes=("vision_model.", "visual_projection."),
            )
        part = full.text_config
        return EncoderSpec(
            encoder=encoder,
            inputs=(InputSpec("input_ids", "int64", (part.max_position_embeddings,)),),
            output="text_embeds",
            layers=part.num_hidden_layers,
            hidden_size=part.hidden_size,
            heads=part.num_attention_heads,
            embedding_dim=full.projection_dim,
            prefixes=("text_model.", "text_projection."),
        )

    def with_layers(self, config: dict[str, Any], encoder: Encoder, layers: int) -> dict[str, Any]:
        """`num_hidden_layers` of one section changed; the given configuration is left alone."""
        section = "vision_config" if encoder == "image" else "text_config"
        return config | {section: config[section] | {"num_hidden_layers": layers}}

    def build(self, folder: Path) -> nn.Module:
        """`CLIPModel` from `config.json`; under `torch.device("meta")` it takes no memory."""
        from transformers import CLIPConfig, CLIPModel

        return CLIPModel(CLIPConfig.from_pretrained(folder)).eval()

    def load(self, folder: Path, attention: str) -> nn.Module:
        """`CLIPModel` in FP32 with the given attention implementation."""
        import torch
        from transformers import CLIPModel

        model = CLIPModel.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=attention, use_safetensors=True, local_files_only=True
        )
        return model.eval()

    def encode(self, model: nn.Module, encoder: Encoder, *inputs: Any) -> Any:
        """Projected, not normalised embeddings, (batch, projection_dim)."""
        features: Any = model.get_image_features if encoder == "image" else model.get_text_features
        return features(*inputs).pooler_output
