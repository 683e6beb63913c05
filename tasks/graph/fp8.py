"""FP8 E4M3 (OCP 8-bit floating point, "E4M3FN"): scales, and the cast by a table of all FP16 values."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import NDArray

E4M3_MAX = 448.0
_MIN_SCALE = 2.0**-14
"""The smallest normal FP16 number: smaller scales would be subnormal, so imprecise, and some hardware flushes them to
zero."""


Scale = np.float16 | NDArray[np.float16]
"""One scale, or one per output channel (channels,)."""


@overload
def scale_for(amax: float) -> np.float16: ...
@overload
def scale_for(amax: NDArray[np.float32]) -> NDArray[np.float16]: ...
def scale_for(amax: float | NDArray[np.float32]) -> Scale:
    """The FP16 scales that map `amax` to 448; never subnormal, even if `amax` is 0."""
    scale: Scale = np.maximum(np.float32(amax) / np.float32(E4M3_MAX), np.float32(_MIN_SCALE)).astype(np.float16)
    return scale


def to_e4m3(values: NDArray[np.floating], scale: Scale) -> NDArray[np.uint8]:
    """The E4M3 bits of finite values divided by `scale` (broadcast): rounded to nearest even, saturating.

    Bit-identical to `(values.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn)`.
    """
    import ml_dtypes

    with np.errstate(over="ignore"):
        scaled = np.clip(values.astype(np.float32) / np.float32(scale), -E4M3_MAX, E4M3_MAX)
    return scaled.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)


class E4M3Cast:
    """Casts FP16 values of any shape to E4M3 bits, as `(values.float() / scale).to(torch.float8_e4m3fn)`, bit for bit.

    It saturates to +-448; the values must be finite.
    """

    def __init__(self, scale: np.float16) -> None:
        values = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
        self._table = to_e4m3(np.nan_to_num(values), scale)  # infinity and NaN are never looked up

    def __call__(self, values: NDArray[np.float16]) -> NDArray[np.uint8]:
        return np.take(self._table, values.view(np.uint16))
