"""Packing float32 pixel values into bytes, if the same values can be restored from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Packing:
    """Packs the pixel values of a processor into a quarter of the memory.

    `table` (3, 256) holds the pixel value of each byte in each channel, or is None if that is unknown.
    """

    def __init__(self, table: NDArray[np.float32] | None) -> None:
        import numpy as np

        # Without a table, or if its values do not differ, pixel values are not packed.
        usable = table is not None and np.isfinite(table).all() and (table[:, 0] != table[:, -1]).all()
        self._table = table if usable else None

    def packed(self, pixels: NDArray[np.float32]) -> NDArray[Any]:
        """The bytes (3, H, W) from which the table gives these pixels, bit for bit; the pixels themselves if there are
        no such bytes."""
        import numpy as np

        if self._table is None:
            return pixels
        low, high = self._table[:, :1, None], self._table[:, -1:, None]
        with np.errstate(invalid="ignore", over="ignore"):
            guess = np.clip(np.rint((pixels - low) / ((high - low) / 255)), 0, 255).astype(np.uint8)
        return guess if self.unpacked(guess).tobytes() == pixels.tobytes() else pixels

    def unpacked(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """The pixels (3, H, W) that were packed."""
        import numpy as np

        if self._table is None or pixels.dtype != np.uint8:
            return pixels
        return np.stack([row.take(channel) for row, channel in zip(self._table, pixels, strict=True)])
