"""The two towers as a model of transformers, so that transformers saves and loads it, and ModelOpt knows it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from tasks.towers import MODEL_TYPE
from tasks.towers.image import ImageTower
from tasks.towers.text import EncoderTower, TextTower


class OpenClipTowersConfig(PretrainedConfig):  # type: ignore[misc]
    """`vision_config` and `text_config` as dictionaries, complete: see `tasks.openclip.towers_config`."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        vision_config: dict[str, Any] | None = None,
        text_config: dict[str, Any] | None = None,
        projection_dim: int = 512,
        **more: Any,
    ) -> None:
        self.vision_config = vision_config or {}
        self.text_config = text_config or {}
        self.projection_dim = projection_dim
        super().__init__(**more)


class OpenClipTowersModel(PreTrainedModel):  # type: ignore[misc]
    """An image tower and a text tower, which share only the width of their embeddings."""

    config_class = OpenClipTowersConfig
    base_model_prefix: ClassVar[str] = "towers"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: OpenClipTowersConfig) -> None:
        super().__init__(config)
        vision, text, dim = config.vision_config, config.text_config, config.projection_dim
        self.vision_model = ImageTower(config, vision, dim)
        self.text_model: nn.Module
        if text["encoder"] == "openclip":
            self.text_model = TextTower(config, text, dim)
        else:
            self.text_model = EncoderTower(text, dim, config._attn_implementation)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Give buffers that are not stored their values; weights are never initialised for training."""
        made: dict[str, Any] = module.constants() if isinstance(module, (ImageTower, TextTower)) else {}
        for name, values in made.items():
            module.get_buffer(name).copy_(torch.from_numpy(values))

    def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, side, side) to (B, dim), not normalised."""
        return self.vision_model(pixels)

    def get_text_features(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Ids (B, T), and their mask for encoders that are transformers' own, to (B, dim), not normalised."""
        return self.text_model(*inputs)
