"""The rows of an embedding run, written to disk in chunks: memory does not grow, and a kill loses little work."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifacts.store.unfinished import Partial

CHUNK_ROWS = 256
"""Rows per chunk: under a second of work on a GPU, and minutes for a large model on a CPU."""


class Chunk(NamedTuple):
    """Rows (n, d) and their keys. `done` is the number of inputs processed after this chunk, `faint` the number of them
    that are pictures with next to no contrast."""

    keys: list[Any]
    rows: NDArray[np.float32]
    done: int
    faint: int = 0


class EmbeddingChunks:
    """Chunks on disk, including those of an earlier killed run, and in memory the last one, which is not full yet."""

    def __init__(self, partial: Partial) -> None:
        self._partial = partial
        self._keys: list[Any] = []
        self._rows: list[NDArray[np.float32]] = []
        self.done = self.count = self.faint = 0
        for chunk in map(_unpack, partial.chunks()):
            self.done, self.count, self.faint = chunk.done, self.count + len(chunk.keys), chunk.faint

    def add(self, keys: list[Any], rows: NDArray[np.float32], done: int, faint: int = 0) -> None:
        """Add one batch; `done` as in `Chunk`, `faint` for this batch only."""
        self._keys += keys
        self._rows.append(rows)
        self.done, self.count, self.faint = done, self.count + len(keys), self.faint + faint
        if len(self._keys) >= CHUNK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows in memory as a chunk."""
        if self._keys:
            stream = io.BytesIO()
            about = json.dumps({"keys": self._keys, "done": self.done, "faint": self.faint})
            np.savez(stream, rows=np.concatenate(self._rows), about=np.frombuffer(about.encode(), np.uint8))
            self._partial.add(stream.getvalue())
            self._keys, self._rows = [], []

    def __iter__(self) -> Iterator[Chunk]:
        """Yield all chunks, one at a time in memory; call `flush` first."""
        for number in range(len(self._partial)):
            yield _unpack(self._partial.read(number))

    def discard(self) -> None:
        """Remove all chunks."""
        self._partial.discard()

    def write(self, rows_file: Path, keys_file: Path) -> None:
        """Write all rows as one .npy file, with the bytes that `numpy.save` would write, and their keys as JSON."""
        keys: list[Any] = []
        with rows_file.open("wb") as stream:
            for chunk in self:
                if not keys:
                    shape = (self.count, chunk.rows.shape[1])
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(stream, header)
                stream.write(np.ascontiguousarray(chunk.rows, "<f4").tobytes())
                keys += chunk.keys
        keys_file.write_text(json.dumps(keys, ensure_ascii=False), encoding="utf-8")


def _unpack(data: bytes) -> Chunk:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        return Chunk(about["keys"], arrays["rows"], about["done"], about["faint"])
