"""The interface between CLIP families and the pipeline: one adapter per family implements `ClipFamily`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from artifacts.manifest import Encoder

if TYPE_CHECKING:
    from torch import nn

MASK = "attention_mask"
"""The name of the mask input, 1 for tokens and 0 for padding, of text encoders that have one."""
_SMALLEST_VOCABULARY = 16
ENCODERS: tuple[Encoder, ...] = ("image", "text")
PROJECTIONS = ("q_proj", "k_proj", "v_proj")
"""The projections of an attention, in the order in which files stack them."""


def made_up_tokens(rng: Any, shape: tuple[int, ...]) -> Any:
    """Random token ids (int64) for timing or comparing models: small ids, which every vocabulary has.

    The largest id occurs once in each text, so that models that pool at the highest id find exactly one position.
    """
    tokens = rng.integers(0, _SMALLEST_VOCABULARY - 1, size=shape, dtype="int64")
    tokens[..., shape[-1] // 2] = _SMALLEST_VOCABULARY - 1
    return tokens


@dataclass(frozen=True)
class InputSpec:
    """One graph input; `shape` excludes the batch dimension, which is dynamic and comes first."""

    name: str
    dtype: Literal["float16", "int64"]
    shape: tuple[int, ...]


def text_inputs(context: int, *, masked: bool) -> tuple[InputSpec, ...]:
    """The inputs of a text encoder: token ids and, if `masked`, their mask (1 for a token, 0 for padding)."""
    names = ("input_ids", MASK) if masked else ("input_ids",)
    return tuple(InputSpec(name, "int64", (context,)) for name in names)


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder of a checkpoint, described from its configuration only."""

    encoder: Encoder
    inputs: tuple[InputSpec, ...]
    output: str
    layers: int
    hidden_size: int
    heads: int
    embedding_dim: int
    prefixes: tuple[str, ...]
    """Prefixes of the encoder's weights in the state dict, including its projection."""


Oracle = Literal["transformers", "golden files"]

ImageSize = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Piece:
    """Where a model parameter is stored: a tensor of the checkpoint's files, or some of its rows, or its transpose.

    `shape`, if given, is the shape to read the stored values in, for a file with another shape of as many values, such
    as a leading axis of length 1; `rows` and `transposed` apply after it. `scale` names a stored vector with one factor
    per row, which multiplies the rows: a layer scale becomes part of the projection before it. `batch_norm` is the
    name, without its last part, of a batch norm (in evaluation mode) that follows a convolution and becomes part of it:
    then `stored` is the convolution's weight, or the norm's bias, which becomes the convolution's bias.
    """

    stored: str
    rows: tuple[int, int] | None = None
    transposed: bool = False
    patch: int | None = None
    """If set, stored rows are flat square patches of this side, (side, side, channels), and the parameter's rows are
    (channels, side, side)."""
    grid: tuple[int, int] | None = None
    """If set, stored rows are positions on a square grid, and are interpolated to this grid (rows, columns)."""
    shape: tuple[int, ...] | None = None
    scale: str | None = None
    batch_norm: str | None = None


def stacked(name: str, shape: tuple[int, ...], parameters: Sequence[str]) -> dict[str, Piece]:
    """The pieces of `parameters` that are stacked in the stored tensor `name` of this shape, with equally many rows."""
    size = shape[0] // len(parameters)
    return {
        parameter: Piece(name, rows=(index * size, (index + 1) * size)) for index, parameter in enumerate(parameters)
    }


class ClipFamily(Protocol):
    """A family of two-encoder models.

    Instances hold no state. `config` is always a configuration from `resolve_config`, complete and with plain sections.
    `stored` is a configuration as a file has it; only `resolve_config` and `at_size` read it.
    """

    @property
    def name(self) -> str:
        """The family's name in the registry and in manifests."""
        ...

    @property
    def covers(self) -> str:
        """Which checkpoints the family accepts, in words."""
        ...

    @property
    def known(self) -> tuple[str, ...]:
        """Names of published models whose configurations are in the tests."""
        ...

    @property
    def oracle(self) -> Oracle:
        """What embeddings are compared with: transformers in every run, or golden files of its library in the tests."""
        ...

    @property
    def model_types(self) -> tuple[str, ...]:
        """The values of `model_type` in `config.json` that belong to the family."""
        ...

    @property
    def repeats_sections(self) -> bool:
        """Whether its library also accepts the old names of sections in `config.json`, such as `text_config_dict`."""
        ...

    @property
    def attends_to_padding(self) -> bool:
        """Whether the text encoder was trained to attend to padding, so that texts must be padded to the context."""
        ...

    @property
    def unquantized(self) -> tuple[str, ...]:
        """Modules that are an `nn.Linear` in checkpoints but not in the graph, so that no recipe can quantize them."""
        ...

    def refuse_foreign_code(self, stored: dict[str, Any], *, where: object) -> None:
        """Refuse a configuration that needs the checkpoint's own code, which is never run.

        Raises:
            UnsupportedVariant: it does.
        """
        ...

    def at_size(
        self, stored: dict[str, Any], size: ImageSize | None, *, where: object
    ) -> tuple[dict[str, Any], ImageSize | None]:
        """The stored configuration with the requested image size, and that size; `where` is for messages.

        If the checkpoint fixes the size, the result is the unchanged configuration and None.

        Raises:
            ConfigError: a size was requested, but the checkpoint fixes it; or it is not a multiple of the patch size.
            UnsupportedVariant: as `resolve_config`.
        """
        ...

    def resolve_config(self, stored: dict[str, Any]) -> dict[str, Any]:
        """The complete configuration that the family's library makes from a stored one; `stored` is not changed.

        Raises:
            UnsupportedVariant: a configuration of this family that clipsmith has no graph for.
        """
        ...

    def encoder_spec(self, config: dict[str, Any], encoder: Encoder) -> EncoderSpec:
        """Shapes and names of one encoder.

        Raises:
            UnsupportedVariant: a configuration of this family that clipsmith has no graph for.
        """
        ...

    def vocabulary(self, config: dict[str, Any]) -> int:
        """The number of token embeddings."""
        ...

    def end_token(self, config: dict[str, Any], tokenizer: Any) -> int | None:
        """The id of the token at which the text encoder pools, and which every text must have; None if it pools at a
        fixed position."""
        ...

    def pools_at_highest_id(self, config: dict[str, Any]) -> bool:
        """Whether the text encoder pools at the highest token id of a text, padding included."""
        ...

    def with_layers(self, config: dict[str, Any], encoder: Encoder, layers: int) -> dict[str, Any]:
        """A copy of the configuration with `layers` blocks in one encoder."""
        ...

    def build(self, config: dict[str, Any]) -> nn.Module:
        """The whole model without weights, on the active default device, `expose`d, in evaluation mode."""
        ...

    def load(self, folder: Path, config: dict[str, Any], attention: str) -> nn.Module:
        """The whole model of its own library with the folder's weights, in FP32 on the CPU, in evaluation mode.

        `config` is used; the configuration in the folder is not read.
        """
        ...

    def plain_model(self, folder: Path) -> nn.Module:
        """The model that plain transformers loads from the folder, in FP32; only for families whose oracle it is."""
        ...

    def ignores(self, name: str, modules: Collection[str]) -> bool:
        """Whether a stored tensor that is not a parameter of the model can be ignored, as embeddings do not depend on
        it; `modules` are the names of the model's modules."""
        ...

    def odd_tensors(self, config: dict[str, Any], stored: Mapping[str, tuple[int, ...]]) -> str | None:
        """Why stored tensors contradict the configuration although every parameter is there; None if they do not."""
        ...

    def expose(self, model: nn.Module) -> None:
        """Replace, in place, modules whose matrix products quantizers cannot reach by equivalents of `nn.Linear`."""
        ...

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> Mapping[str, Piece | None]:
        """Parameters of the `expose`d model that are not stored under their own name; `stored` maps names to shapes.

        A stored name that maps to None is a tensor that is not a parameter and does not affect embeddings.
        """
        ...

    def pieces_at(self, stored: Mapping[str, tuple[int, ...]], size: ImageSize | None) -> Mapping[str, Piece | None]:
        """The `pieces` of a model at the image size from `at_size`; None means the model's own size."""
        ...

    def encode(self, model: nn.Module, encoder: Encoder, *inputs: Any) -> Any:
        """Projected, not normalised embeddings (batch, embedding_dim); `inputs` are those of the encoder's spec."""
        ...

    def tokenizer(self, folder: Path, config: dict[str, Any] | None) -> Any:
        """The tokenizer of a checkpoint; `config` is None for a folder that holds only tokenizer and image processor.

        It pads on the right, whatever it was saved with: positions count from a text's first token, causal attention
        must not see padding before it, and SigLIP was trained with padding after the text.
        """
        ...

    def image_processor(self, folder: Path) -> Any:
        """The checkpoint's image processor, on Pillow."""
        ...

    def fixed_processor(self, images: Any, config: dict[str, Any]) -> Any:
        """An image processor that makes pictures of the model's size: `images` itself, if its size is fixed."""
        ...


def encoder_prefixes(family: ClipFamily, config: dict[str, Any]) -> tuple[str, ...]:
    """The state-dict prefixes of all weights of both encoders."""
    return tuple(prefix for encoder in ENCODERS for prefix in family.encoder_spec(config, encoder).prefixes)
