"""FP8 E4M3 (OCP 8-bit floating point, "E4M3FN"): scales and the cast, by a table over all FP16 values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

E4M3_MAX = 448.0
_MIN_SCALE = 2.0**-14
"""The smallest normal FP16: a smaller scale would be subnormal, coarse, and flushed to zero by some hardware."""


def scale_for(amax: float) -> np.float16:
    """The FP16 scale that maps `amax` to 448, never subnormal."""
    return np.float16(max(np.float32(amax) / np.float32(E4M3_MAX), np.float32(_MIN_SCALE)))


def _table(scale: np.float16) -> NDArray[np.uint8]:
    """E4M3 bits of every FP16 value divided by `scale`: round to nearest even, saturating."""
    import ml_dtypes

    values = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    with np.errstate(over="ignore"):
        scaled = np.clip(np.nan_to_num(values) / np.float32(scale), -E4M3_MAX, E4M3_MAX)
    return scaled.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)


class E4M3Cast:
    """FP16 values to E4M3 bits, any shape; bit-identical to `(values.float() / scale).to(torch.float8_e4m3fn)`.

    Saturates to +-448; the input must be finite.
    """

    def __init__(self, scale: np.float16) -> None:
        self._table = _table(scale)

    def __call__(self, values: NDArray[np.float16]) -> NDArray[np.uint8]:
        return np.take(self._table, values.view(np.uint16))
