"""What a CLIP family must tell the pipeline: one adapter per family implements `ClipFamily`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from artifacts.manifest import Encoder

if TYPE_CHECKING:
    from torch import nn

ENCODERS: tuple[Encoder, ...] = ("image", "text")


@dataclass(frozen=True)
class InputSpec:
    """One graph input; `shape` is without the batch dimension, which is dynamic and comes first."""

    name: str
    dtype: Literal["float16", "int64"]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder of a checkpoint, read from its configuration alone."""

    encoder: Encoder
    inputs: tuple[InputSpec, ...]
    output: str
    layers: int
    hidden_size: int
    heads: int
    embedding_dim: int
    prefixes: tuple[str, ...]
    """State-dict prefixes of the encoder's weights, its projection included."""


class ClipFamily(Protocol):
    """A family of two-encoder models in Hugging Face layout.

    Instances hold no state; `config` is the parsed `config.json`.
    """

    @property
    def name(self) -> str:
        """What the registry and manifests call the family."""
        ...

    @property
    def model_types(self) -> tuple[str, ...]:
        """The `model_type` values of `config.json` that belong to it."""
        ...

    def encoder_spec(self, config: dict[str, Any], encoder: Encoder) -> EncoderSpec:
        """Shapes and names of one encoder."""
        ...

    def with_layers(self, config: dict[str, Any], encoder: Encoder, layers: int) -> dict[str, Any]:
        """The configuration of the same model with `layers` blocks in one encoder."""
        ...

    def build(self, folder: Path) -> nn.Module:
        """The whole model without weights, under whatever default device is active, in evaluation mode."""
        ...

    def load(self, folder: Path, attention: str) -> nn.Module:
        """The whole model with its weights in FP32 on the CPU, in evaluation mode."""
        ...

    def encode(self, model: nn.Module, encoder: Encoder, *inputs: Any) -> Any:
        """Projected, not normalised embeddings (batch, embedding_dim) of one encoder."""
        ...
