"""Reading safetensors files one tensor at a time, or a few rows of a tensor.

Format: https://huggingface.co/docs/safetensors (8-byte little-endian header length, JSON header, raw tensors).
The library validates each file when it is opened. We read at our own offsets, because the library cannot convert
bfloat16 to NumPy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import BadWeights
from artifacts.records import refuse_large
from artifacts.strict_json import strict_json
from tasks.clip.base import Piece
from tasks.clip.limits import HEADER
from tasks.clip.positions import interpolated

_DTYPES: dict[str, type] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_CHUNK_BYTES = 4 << 20
"""Bytes that `chunks` reads at a time: little memory, and still fast."""
_INFINITY_BITS = 0x7C00
"""The bits of infinity in FP16, without the sign; NaNs have larger bits."""

_BATCH_NORM_EPS = 1e-5
"""The epsilon of batch norms: PyTorch's default, which timm does not change."""

FindPieces = Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, Piece | None]]


_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "model", "base_model", "backbone")
_MODELS = ("clip", "clip_model", "siglip", "siglip2", "chinese_clip", "altclip", "metaclip_2")
_WRAPPED = re.compile(
    rf"((?:(?:{'|'.join((*_WRAPPERS, *_MODELS))})\.)+)(?:text_model|vision_model|visual|transformer)\."
)
"""An encoder's tensor with a prefix that training tools put before every name: PyTorch's wrappers, the name of the
attribute that held the model, or transformers' prefix of a model inside another."""
_PLAIN = ("text_model.", "vision_model.", "visual.", "transformer.")


def wrapper_prefix(names: Iterable[str]) -> str:
    """The prefix that all tensors of the encoders share, such as `module.` or `module._orig_mod.`; empty if none.

    Tensors outside of the wrapped model, such as a head, need not have it.
    """
    listed = list(names)
    found = {match[1] for match in map(_WRAPPED.match, listed) if match}
    if len(found) != 1 or any(name.startswith(_PLAIN) for name in listed):
        return ""
    return found.pop()


def stored_names(files: Iterable[Path]) -> list[str]:
    """The names of all tensors in the files.

    Raises:
        BadWeights: a file is not valid safetensors.
    """
    return [name for path in files for name in _header(path)[1]]


class WeightReader:
    """The parameters in one or more safetensors files, by the model's names.

    A wrapper's prefix is dropped from the names (`prefix` holds it); `stored` has the shapes of all tensors.

    `find_pieces` says which parameters are stored under another name or as part of another tensor, and which tensors
    are not parameters (see `ClipFamily.pieces`); all other tensors keep their names.

    Raises (on opening):
        BadWeights: a file is not valid safetensors, two files hold the same tensor, or shapes do not fit together.
    """

    def __init__(self, files: Iterable[Path], find_pieces: FindPieces | None = None) -> None:
        where: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        for path in files:
            base, header = _header(path)
            for name, entry in header.items():
                if name in where:
                    raise BadWeights(f"tensor {name} is in two files", where=path)
                where[name] = (path, base, entry)
        self.prefix = wrapper_prefix(where)
        self._where = {name.removeprefix(self.prefix): place for name, place in where.items()}
        if len(self._where) < len(where):
            twice = next(name for name in where if self.prefix and f"{self.prefix}{name}" in where)
            raise BadWeights(
                f"{twice} is there twice, under {self.prefix} and without it",
                where=where[twice][0],
                expected="each tensor once",
                fix="save the wrapped model alone",
            )
        self.stored = {name: tuple(entry["shape"]) for name, (_, _, entry) in self._where.items()}
        shapes = self.stored
        try:
            found = {} if find_pieces is None else find_pieces(shapes)
        except (ArithmeticError, LookupError, ValueError) as error:
            raise BadWeights(
                f"the tensors do not have the shapes of the model's kind: {error}",
                where=next((path for path, _, _ in where.values()), None),
                expected="the shapes that the model's own library stores",
                fix="download the checkpoint again",
            ) from error
        named = {name: piece for name, piece in found.items() if piece is not None}
        used = {piece.stored for piece in named.values()} | {piece.scale for piece in named.values()}
        used |= {name for piece in named.values() for name in _batch_norm(piece).values()}
        used |= found.keys() - named.keys()
        for piece in named.values():
            self._check_parts(piece)
        self._pieces = {name: Piece(name) for name in shapes if name not in used} | named

    def _check_parts(self, piece: Piece) -> None:
        """Refuse a piece with another number of values than its tensor, and a scale or norm without a value per row.

        Raises:
            BadWeights.
        """
        stored = self.stored.get(piece.stored, ())
        shape = stored if piece.shape is None else piece.shape
        parts = [*_batch_norm(piece).values(), *([piece.scale] if piece.scale else [])]
        odd = [name for name in parts if self.stored.get(name) != shape[:1]]
        if math.prod(stored) != math.prod(shape):
            odd.append(piece.stored)
        if odd:
            raise BadWeights(
                f"{odd[0]} has shape {self.stored.get(odd[0])}, which does not fit {piece.stored} of {stored}",
                where=self._where[piece.stored][0],
                expected="a factor for each row",
                fix="check that weights and configuration belong together",
            )

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __contains__(self, name: object) -> bool:
        return name in self._pieces

    def parameters(self) -> int:
        """The number of values of all tensors together."""
        return sum(math.prod(self.shape(name)) for name in self)

    def shape(self, name: str) -> tuple[int, ...]:
        """The parameter's shape."""
        piece = self._pieces[name]
        shape = self._shape(piece)
        if piece.rows is not None:
            shape = (piece.rows[1] - piece.rows[0], *shape[1:])
        if piece.patch is not None:
            shape = (shape[0], math.prod(shape[1:]) // piece.patch**2, piece.patch, piece.patch)
        if piece.grid is not None:
            shape = (math.prod(piece.grid), *shape[1:])
        return shape[::-1] if piece.transposed else shape

    def read(self, name: str) -> NDArray[Any]:
        """A parameter in its stored float type; bfloat16 and interpolated parameters are converted to float32.

        Raises:
            BadWeights: the tensor is not floating point.
        """
        piece = self._pieces[name]
        values = _of_piece(self._rows(piece, *self._range(piece)), piece)
        return values.T if piece.transposed else values

    def chunks(self, name: str) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """A parameter in FP16, a few of its stored rows at a time: (index of the first row, rows).

        The rows of a `transposed` parameter are its columns: see `is_transposed`.

        Raises:
            BadWeights: a value overflows FP16, or the tensor is not floating point.
        """
        path = self._where[self._pieces[name].stored][0]
        yield from ((first, _to_fp16(rows, name, path)) for first, rows in self.parts(name))

    def parts(self, name: str) -> Iterator[tuple[int, NDArray[Any]]]:
        """As `chunks`, in the dtypes of `read`."""
        piece = self._pieces[name]
        start, end = self._range(piece)
        path, _, entry = self._where[piece.stored]
        row_bytes = _dtype(piece.stored, entry, path)().itemsize * math.prod(self._shape(piece)[1:])
        step = max(1, _CHUNK_BYTES // max(1, row_bytes))
        if piece.grid is not None:  # interpolation needs all stored rows; a table of positions is small
            step = end - start
        for first in range(start, end, step):
            yield first - start, _of_piece(self._rows(piece, first, min(first + step, end)), piece)

    def is_transposed(self, name: str) -> bool:
        """Whether `chunks` yields columns of the parameter."""
        return self._pieces[name].transposed

    def _shape(self, piece: Piece) -> tuple[int, ...]:
        """The shape in which the whole stored tensor is read, before rows and transposition."""
        return tuple(self._where[piece.stored][2]["shape"]) if piece.shape is None else piece.shape

    def _range(self, piece: Piece) -> tuple[int, int]:
        if piece.rows is not None:
            return piece.rows
        shape = self._shape(piece)
        return 0, shape[0] if shape else 1

    def _rows(self, piece: Piece, start: int, end: int) -> NDArray[Any]:
        """Rows `start` to `end` of a stored tensor, scaled; a scalar has one row."""
        path, base, entry = self._where[piece.stored]
        dtype = np.dtype(_dtype(piece.stored, entry, path))
        shape = self._shape(piece)
        row = math.prod(shape[1:])
        with path.open("rb") as stream:
            stream.seek(base + entry["data_offsets"][0] + start * row * dtype.itemsize)
            values: NDArray[Any] = np.fromfile(stream, dtype, (end - start) * row)
        values = values.reshape((end - start, *shape[1:]) if shape else ())
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        if piece.batch_norm is not None:
            return self._normed(values, piece, start, end)
        if piece.scale is None:
            return values
        factors = self._rows(Piece(piece.scale), start, end).astype(np.float32)
        return values.astype(np.float32) * factors.reshape(-1, *(1,) * (values.ndim - 1))

    def _normed(self, values: NDArray[Any], piece: Piece, start: int, end: int) -> NDArray[np.float32]:
        """Rows of a convolution merged with its batch norm: w becomes w f, the bias b - mean f; f = g / deviation."""
        named = _batch_norm(piece)
        norm = {key: self._rows(Piece(name), start, end).astype(np.float64) for key, name in named.items()}
        factors = norm["weight"] / np.sqrt(norm["running_var"] + _BATCH_NORM_EPS)
        if piece.stored == named["bias"]:
            return (norm["bias"] - norm["running_mean"] * factors).astype(np.float32)
        return (values * factors.reshape(-1, *(1,) * (values.ndim - 1))).astype(np.float32)


def _batch_norm(piece: Piece) -> dict[str, str]:
    """The names of the tensors of a piece's batch norm, by their role."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return {} if piece.batch_norm is None else {part: f"{piece.batch_norm}.{part}" for part in parts}


def _of_piece(rows: NDArray[Any], piece: Piece) -> NDArray[Any]:
    """Stored rows converted to the parameter's layout."""
    if piece.patch is not None:
        rows = rows.reshape(len(rows), piece.patch, piece.patch, -1).transpose(0, 3, 1, 2)
    if piece.grid is not None:
        rows = interpolated(rows, piece.grid)
    return rows


def _dtype(name: str, entry: Mapping[str, Any], path: Path) -> type:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise BadWeights(f"tensor {name} has dtype {entry['dtype']}", where=path, expected="F32, F16, BF16 or F64")
    return dtype


def _to_fp16(values: NDArray[Any], name: str, path: Path) -> NDArray[np.float16]:
    if values.dtype == np.float16:
        return values
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    magnitudes = half.view(np.uint16) & 0x7FFF
    if magnitudes.size and magnitudes.max() >= _INFINITY_BITS:
        raise BadWeights(
            f"{name} has values that do not fit FP16 (such as {float(np.abs(values).max()):.4g})",
            where=path,
            expected="magnitudes below 65504",
        )
    return half


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            data = stream.read(min(length, HEADER.bytes + 1))
        refuse_large(data, HEADER)  # the library accepts 100 MB, and needs a hundred times as much memory for it
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise BadWeights(f"not a valid safetensors file: {error}", where=path, fix="download it again") from error
    try:
        header = strict_json(data)
    except ValueError as error:
        raise BadWeights(f"the safetensors header is not sound JSON: {error}", where=path) from error
    header.pop("__metadata__", None)
    return 8 + length, header
