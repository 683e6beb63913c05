"""What a CLIP family must tell the pipeline: one adapter per family implements `ClipFamily`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from artifacts.manifest import Encoder

if TYPE_CHECKING:
    from torch import nn

MASK = "attention_mask"
"""The input that tells tokens (1) from padding (0), of text encoders that have it."""
_SMALLEST_VOCABULARY = 16
ENCODERS: tuple[Encoder, ...] = ("image", "text")
PROJECTIONS = ("q_proj", "k_proj", "v_proj")
"""An attention's projections, in the order in which files stack them."""


def made_up_tokens(rng: Any, shape: tuple[int, ...]) -> Any:
    """Token ids (int64) of texts to time a model or compare two with: small, so that every vocabulary has them.

    The largest is there once in each text: models that pool at the highest id find one place.
    """
    tokens = rng.integers(0, _SMALLEST_VOCABULARY - 1, size=shape, dtype="int64")
    tokens[..., shape[-1] // 2] = _SMALLEST_VOCABULARY - 1
    return tokens


@dataclass(frozen=True)
class InputSpec:
    """One graph input; `shape` is without the batch dimension, which is dynamic and comes first."""

    name: str
    dtype: Literal["float16", "int64"]
    shape: tuple[int, ...]


def text_inputs(context: int, *, masked: bool) -> tuple[InputSpec, ...]:
    """Token ids, and for encoders that see padding unless it is masked, their mask: 1 for a token, 0 for padding."""
    names = ("input_ids", MASK) if masked else ("input_ids",)
    return tuple(InputSpec(name, "int64", (context,)) for name in names)


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


Oracle = Literal["transformers", "golden files"]

ImageSize = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Piece:
    """Where a model parameter is stored: a tensor of the checkpoint's files, or some of its rows, or its transpose.

    `shape` is the shape in which the stored values are read, where the file has another with as many values, such as a
    leading axis of length 1; `rows` and `transposed` come after it. `scale` names a stored vector with one factor for
    each of the tensor's rows, by which they are multiplied: a layer scale belongs to the projection before it.
    `batch_norm` is the name, without its last part, of a batch norm in evaluation mode that follows a convolution and
    becomes part of it: `stored` is the convolution's weight, or the norm's own bias, which becomes the convolution's.
    """

    stored: str
    rows: tuple[int, int] | None = None
    transposed: bool = False
    patch: int | None = None
    """Stored rows are flat square patches of this side, (side, side, channels); the parameter's are (channels, side,
    side)."""
    grid: tuple[int, int] | None = None
    """Stored rows are positions on a square grid; the parameter's are interpolated to this one (rows, columns)."""
    shape: tuple[int, ...] | None = None
    scale: str | None = None
    batch_norm: str | None = None


def stacked(name: str, shape: tuple[int, ...], parameters: Sequence[str]) -> dict[str, Piece]:
    """The parameters whose rows lie one after the other in the stored tensor `name` of this shape, as many for each."""
    size = shape[0] // len(parameters)
    return {
        parameter: Piece(name, rows=(index * size, (index + 1) * size)) for index, parameter in enumerate(parameters)
    }


class ClipFamily(Protocol):
    """A family of two-encoder models.

    Instances hold no state. `config` is a configuration as `resolve_config` gives it, whose sections can be read and
    changed as they stand; what a file says is `stored`, and only `resolve_config` reads it.
    """

    @property
    def name(self) -> str:
        """What the registry and manifests call the family."""
        ...

    @property
    def covers(self) -> str:
        """Whose checkpoints it takes, in words for people."""
        ...

    @property
    def known(self) -> tuple[str, ...]:
        """Published models, by the names that people give, whose configurations go through the tests."""
        ...

    @property
    def oracle(self) -> Oracle:
        """What its embeddings are held to: transformers in every run, or in the tests golden files of its library."""
        ...

    @property
    def model_types(self) -> tuple[str, ...]:
        """The `model_type` values of `config.json` that belong to it."""
        ...

    @property
    def repeats_sections(self) -> bool:
        """Whether its library takes a section of `config.json` under its old name too, `text_config_dict`."""
        ...

    @property
    def attends_to_padding(self) -> bool:
        """Whether texts are embedded with their padding up to the context, as the family was trained."""
        ...

    @property
    def unquantized(self) -> tuple[str, ...]:
        """Modules that checkpoints store as an `nn.Linear` and that are none in the graph: no recipe reaches them."""
        ...

    def refuse_foreign_code(self, stored: dict[str, Any], *, where: object) -> None:
        """Refuse a configuration that only the checkpoint's own code understands, which is never run.

        Raises:
            UnsupportedVariant.
        """
        ...

    def at_size(
        self, stored: dict[str, Any], size: ImageSize | None, *, where: object
    ) -> tuple[dict[str, Any], ImageSize | None]:
        """The stored configuration at the image size that was asked for, and that size, `where` for messages.

        The size is None where the checkpoint fixes it; then the configuration is left as it is.

        Raises:
            ConfigError: the checkpoint fixes another size or any, or the size is not made of whole patches.
            UnsupportedVariant: as `resolve_config`.
        """
        ...

    def resolve_config(self, stored: dict[str, Any]) -> dict[str, Any]:
        """The configuration that the family's library makes of a stored one, complete; `stored` is left as it is.

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
        """The token that the text encoder is pooled at, which every text must have; None if it is pooled by place."""
        ...

    def pools_at_highest_id(self, config: dict[str, Any]) -> bool:
        """Whether the text encoder is pooled at the highest token id of a text, its padding included."""
        ...

    def with_layers(self, config: dict[str, Any], encoder: Encoder, layers: int) -> dict[str, Any]:
        """The configuration of the same model with `layers` blocks in one encoder."""
        ...

    def build(self, config: dict[str, Any]) -> nn.Module:
        """The whole model without weights, under whatever default device is active, `expose`d, in evaluation mode."""
        ...

    def load(self, folder: Path, config: dict[str, Any], attention: str) -> nn.Module:
        """The whole model with the folder's weights in FP32 on the CPU, in evaluation mode, as its own library runs it.

        The configuration in the folder is not read.
        """
        ...

    def plain_model(self, folder: Path) -> nn.Module:
        """The model that plain transformers makes of the folder by itself, in FP32, where that is the oracle."""
        ...

    def ignores(self, name: str, modules: Collection[str]) -> bool:
        """Whether a stored tensor that is no parameter of the model changes no embedding; `modules` has the model's."""
        ...

    def odd_tensors(self, config: dict[str, Any], stored: Mapping[str, tuple[int, ...]]) -> str | None:
        """Why stored tensors do not fit the configuration although they give every parameter; None if they fit."""
        ...

    def expose(self, model: nn.Module) -> None:
        """Replace modules whose products quantizers cannot reach by equivalent ones made of `nn.Linear`, in place."""
        ...

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> Mapping[str, Piece | None]:
        """Parameters of the `expose`d model that are not stored under their own name; `stored` maps names to shapes.

        None under a stored name: the tensor is no parameter of the model and changes no embedding.
        """
        ...

    def pieces_at(self, stored: Mapping[str, tuple[int, ...]], size: ImageSize | None) -> Mapping[str, Piece | None]:
        """`pieces` of a model at the image size that `at_size` gave; None: at its own."""
        ...

    def encode(self, model: nn.Module, encoder: Encoder, *inputs: Any) -> Any:
        """Projected, not normalised embeddings (batch, embedding_dim); `inputs` are those of the encoder's spec."""
        ...

    def tokenizer(self, folder: Path, config: dict[str, Any] | None) -> Any:
        """The tokenizer of a checkpoint with this configuration; None for a folder of tokenizer and processor alone.

        It pads on the right, whatever it was saved with: positions are counted from a text's first token, causal
        attention must not see padding before it, and SigLIP was trained with its padding after the text.
        """
        ...

    def image_processor(self, folder: Path) -> Any:
        """The checkpoint's image processor, on Pillow."""
        ...

    def fixed_processor(self, images: Any, config: dict[str, Any]) -> Any:
        """An image processor for pictures of the model's size: `images` itself, unless it leaves the size open."""
        ...


def encoder_prefixes(family: ClipFamily, config: dict[str, Any]) -> tuple[str, ...]:
    """The state-dict prefixes of all weights that embeddings are made of, those of both encoders."""
    return tuple(prefix for encoder in ENCODERS for prefix in family.encoder_spec(config, encoder).prefixes)
