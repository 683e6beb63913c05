"""What a CLIP family must tell the pipeline: one adapter per family implements `ClipFamily`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from artifacts.manifest import Encoder

if TYPE_CHECKING:
    pass

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
