"""Read safetensors one tensor at a time.

Format: https://huggingface.co/docs/safetensors (8-byte little-endian header length, JSON header, raw tensors).
The library validates each file when it is opened; reading goes by our own offsets because the library cannot give
bfloat16 to NumPy.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import BadWeights

_DTYPES: dict[str, type] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class WeightReader:
    """The tensors of one or more safetensors files, by name.

    Raises (on opening):
        BadWeights: a file is not valid safetensors, or two files hold the same tensor.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._where: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        for path in files:
            base, header = _header(path)
            for name, entry in header.items():
                if name in self._where:
                    raise BadWeights(f"tensor {name} is in two files", where=path)
                self._where[name] = (path, base, entry)

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __contains__(self, name: object) -> bool:
        return name in self._where

    def shape(self, name: str) -> tuple[int, ...]:
        """The stored shape of a tensor."""
        return tuple(self._where[name][2]["shape"])

    def read(self, name: str) -> NDArray[Any]:
        """A tensor in its stored float type; bfloat16 comes as float32, which holds it exactly.

        Raises:
            BadWeights: the tensor is not floating point.
        """
        path, base, entry = self._where[name]
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise BadWeights(f"tensor {name} has dtype {entry['dtype']}", where=path, expected="F32, F16, BF16 or F64")
        start, end = entry["data_offsets"]
        with path.open("rb") as stream:
            stream.seek(base + start)
            values = np.frombuffer(stream.read(end - start), dtype=dtype).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values

    def read_fp16(self, name: str) -> NDArray[np.float16]:
        """A tensor rounded to FP16.

        Raises:
            BadWeights: a value overflows FP16.
        """
        values = self.read(name)
        if values.dtype == np.float16:
            return values
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            count = int((~np.isfinite(half)).sum())
            raise BadWeights(
                f"{count} values of {name} do not fit FP16 (largest {float(np.abs(values).max()):.4g})",
                where=self._where[name][0],
                expected="magnitudes below 65504",
            )
        return half


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise BadWeights(f"not a valid safetensors file: {error}", where=path, fix="download it again") from error
    with path.open("rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return 8 + length, header
