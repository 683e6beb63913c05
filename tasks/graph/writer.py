"""Writing a skeleton with its weights, streamed from safetensors, with at most one tensor per thread in memory.

All sizes are known beforehand, so the position of every weight in the protobuf file is known before any is read
(protobuf encoding guide: length-delimited fields; onnx.proto: ModelProto.graph = 7, GraphProto.initializer = 5,
TensorProto.raw_data = 9). Above protobuf's limit of 2 GB, the weights are written to `<name>.data` as external data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from artifacts.errors import BadWeights
from tasks.clip.weights import WeightReader
from tasks.graph.fp8 import E4M3Cast, to_e4m3
from tasks.graph.skeleton import Skeleton, Weight

SINGLE_FILE_LIMIT = 2_000_000_000
"""Bytes of weights above which external data is used; protobuf's own limit is 2 GiB for the whole message."""
_ALIGNMENT = 4096
_DTYPE = {"fp16": TensorProto.FLOAT16, "fp8": TensorProto.FLOAT8E4M3FN}
_ITEM_SIZE = {"fp16": 2, "fp8": 1}
_STRIP = 64
_THREADS = 8
"""The most threads: each holds a weight, so memory would grow with the number of cores."""


def write_onnx(skeleton: Skeleton, reader: WeightReader, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the graph to `path` (and `path`.data when the weights exceed `SINGLE_FILE_LIMIT`).

    Raises:
        BadWeights: a tensor is missing, has another shape than the graph, or does not fit FP16.
    """
    model = deepcopy(skeleton.model)
    onnx.helper.set_model_props(model, dict(metadata))
    _check_shapes(skeleton, reader)
    if sum(_nbytes(weight) for weight in skeleton.weights.values()) > SINGLE_FILE_LIMIT:
        _write_external(model, skeleton, reader, path)
    else:
        _write_single(model, skeleton, reader, path)


def _check_shapes(skeleton: Skeleton, reader: WeightReader) -> None:
    for name, weight in skeleton.weights.items():
        if weight.key not in reader:
            raise BadWeights(f"the checkpoint has no tensor {weight.key}", expected=f"shape {list(weight.shape)}")
        stored = reader.shape(weight.key)
        wanted = weight.shape[::-1] if weight.transposed else weight.shape
        if stored != wanted:
            raise BadWeights(f"tensor {name} has shape {list(stored)}", expected=f"shape {list(wanted)}")


def _nbytes(weight: Weight) -> int:
    return int(np.prod(weight.shape, dtype=np.int64)) * _ITEM_SIZE[weight.precision]


def _declaration(name: str, weight: Weight) -> TensorProto:
    return TensorProto(name=name, data_type=_DTYPE[weight.precision], dims=weight.shape)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _tag(field: int) -> bytes:
    return _varint(field << 3 | 2)  # wire type 2: length-delimited


def _write_single(model: onnx.ModelProto, skeleton: Skeleton, reader: WeightReader, path: Path) -> None:
    graph = model.graph.SerializeToString(deterministic=True)
    heads = {name: _declaration(name, weight).SerializeToString() for name, weight in skeleton.weights.items()}
    bodies = {name: len(heads[name]) + _field_length(9, _nbytes(w)) for name, w in skeleton.weights.items()}
    total = len(graph) + sum(_field_length(5, length) for length in bodies.values())
    model.ClearField("graph")
    places: dict[str, int] = {}
    with path.open("wb") as stream:
        stream.write(model.SerializeToString(deterministic=True))
        stream.write(_tag(7) + _varint(total))
        stream.write(graph)
        for name, weight in skeleton.weights.items():
            stream.write(_tag(5) + _varint(bodies[name]) + heads[name])
            stream.write(_tag(9) + _varint(_nbytes(weight)))
            places[name] = stream.tell()
            stream.seek(_nbytes(weight), os.SEEK_CUR)
        stream.truncate()
    _fill(path, places, skeleton, reader)


def _field_length(field: int, content: int) -> int:
    return len(_tag(field)) + len(_varint(content)) + content


def _write_external(model: onnx.ModelProto, skeleton: Skeleton, reader: WeightReader, path: Path) -> None:
    data = path.with_name(f"{path.name}.data")
    places: dict[str, int] = {}
    end = 0
    for name, weight in skeleton.weights.items():
        places[name] = end + -end % _ALIGNMENT
        end = places[name] + _nbytes(weight)
        tensor = _declaration(name, weight)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", data.name), ("offset", places[name]), ("length", _nbytes(weight))):
            tensor.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(tensor)
    with data.open("wb") as stream:
        stream.truncate(end)
    _fill(data, places, skeleton, reader)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _fill(path: Path, places: Mapping[str, int], skeleton: Skeleton, reader: WeightReader) -> None:
    """Write every weight to its position in the file, in several threads."""
    used = {weight.scale for weight in skeleton.weights.values()}
    # By the name of the constant: scalars, or one scale per column in the graph.
    scales: dict[str | None, NDArray[np.float16]] = {
        constant.name: numpy_helper.to_array(constant)
        for constant in skeleton.model.graph.initializer
        if constant.name in used
    }

    def write(name: str) -> None:
        weight = skeleton.weights[name]
        with path.open("r+b") as stream:
            stream.seek(places[name])
            _write_values(stream, weight, reader, scales.get(weight.scale))

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), "clipsmith-weights") as pool:
        try:
            for _ in pool.map(write, places):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_values(stream: BinaryIO, weight: Weight, reader: WeightReader, scale: NDArray[np.float16] | None) -> None:
    """Write one weight in the graph's layout and dtype, a few rows at a time; only a transposed one is held whole."""
    turned = weight.transposed != reader.is_transposed(weight.key)
    cast = _cast(scale, turned)
    if not turned:
        for first, rows in reader.chunks(weight.key):
            _write_array(stream, cast(first, rows))
        return
    whole = np.empty(weight.shape, np.float16 if scale is None else np.uint8)
    for first, rows in reader.chunks(weight.key):
        _put_columns(whole, first, cast(first, rows))
    _write_array(stream, whole)


def _cast(scale: NDArray[np.float16] | None, turned: bool) -> Callable[[int, NDArray[np.float16]], NDArray]:
    """A function from (index of the first row, rows) to stored values; `turned`: rows are the graph's columns."""
    if scale is None:
        return lambda _, rows: rows
    if not scale.ndim:
        table = E4M3Cast(np.float16(scale))
        return lambda _, rows: table(rows)
    if turned:
        return lambda first, rows: to_e4m3(rows, scale[first : first + len(rows), None])
    return lambda _, rows: to_e4m3(rows, scale)


def _put_columns(whole: NDArray, first: int, rows: NDArray) -> None:
    """`whole[:, first:first + n] = rows.T`, in strips that fit into the CPU cache, which is ten times faster."""
    for start in range(0, len(rows), _STRIP):
        strip = rows[start : start + _STRIP]
        whole[:, first + start : first + start + len(strip)] = strip.T


def _write_array(stream: BinaryIO, values: NDArray) -> None:
    stream.write(values.reshape(-1).view(np.uint8).data)
