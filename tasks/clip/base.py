"""The interface between CLIP families and the pipeline: one adapter per family implements `ClipFamily`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from artifacts.manifest import Encoder

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
