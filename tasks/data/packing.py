"""Pixel values as bytes, where these can be made the same pixel values again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Packing:
    """Packs what a processor makes of pictures, in a quarter of the memory.

    `table` (3, 256) is what it makes of each byte of each channel, if that is known.
    """

    def __init__(self, table: NDArray[np.float32] | None) -> None:
        import numpy as np

        # without it, or where the bytes cannot be told from each other, pixel values stay as they are
        usable = table is not None and np.isfinite(table).all() and (table[:, 0] != table[:, -1]).all()
        self._table = table if usable else None

    def packed(self, pixels: NDArray[np.float32]) -> NDArray[Any]:
        """The bytes, uint8, that the table makes these pixels (3, H, W) of, bit for bit; the pixels if there are
        none."""
        import numpy as np

        if self._table is None:
            return pixels
        low, high = self._table[:, :1, None], self._table[:, -1:, None]
        with np.errstate(invalid="ignore", over="ignore"):
            guess = np.clip(np.rint((pixels - low) / ((high - low) / 255)), 0, 255).astype(np.uint8)
        return guess if self.unpacked(guess).tobytes() == pixels.tobytes() else pixels

    def unpacked(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """The pixels (3, H, W) as they were."""
        import numpy as np

        if self._table is None or pixels.dtype != np.uint8:
            return pixels
        return np.stack([row.take(channel) for row, channel in zip(self._table, pixels, strict=True)])
