"""NumPy array files (.npy) of a release from elsewhere: the header is checked before anything reads the values."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from artifacts import limits
from artifacts.records import came_refused

_DTYPES = ("float32", "float16", "float64")


def check(path: Path, name: str) -> None:
    """Make sure that a file holds one 2-D array of floats in C order, and as many bytes as its header says.

    `name` is how messages call the file.

    Raises:
        TableError: the dtype, order or shape is not one that embeddings have, or the file has another size.
    """
    import numpy as np

    try:
        with path.open("rb") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("a version of the format that we do not write")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=limits.ARRAY_HEADER)
            start = stream.tell()
    except (OSError, ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError) as error:
        raise _refused(name, f"it cannot be read: {' '.join(str(error).split())[:200]}") from error
    if fortran or dtype.name not in _DTYPES or not dtype.isnative or len(shape) != 2 or min(shape) < 0:
        raise _refused(name, f"it holds {str(dtype)[:40]} in {len(shape)} dimensions")
    if start + math.prod(shape) * dtype.itemsize != path.stat().st_size:
        raise _refused(name, f"its {shape[0]:,} rows of {shape[1]:,} values are not what it holds")


_refused = partial(came_refused, "an array", expected="a float table as clipsmith writes embeddings")
