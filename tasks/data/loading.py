"""Loading one picture: a processor makes its pixel values, which may be packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from artifacts.errors import BadBatch
from tasks.data.base import Encoded
from tasks.data.images import decode_unchanged, has_contrast
from tasks.data.packing import Packing

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from tasks.checkpoints.preprocess import Preprocess

OWN_PROCESSOR = "give the processor that belongs to the checkpoint"


class Loaded(NamedTuple):
    """The pixel values of one picture, [3, H, W], packed or float32, and whether it has next to no contrast."""

    pixels: np.ndarray
    faint: bool


@dataclass(frozen=True)
class Loader:
    """Makes pixel values of pictures. A copy of it works in another process if `processor` can be pickled."""

    processor: Preprocess
    packing: Packing | None = None

    def load(self, picture: Image, where: str) -> Loaded:
        """The pixel values of an RGB picture. Raises: BadBatch: the processor's array has the wrong form."""
        pixels = self.processor.image(picture)
        if pixels.ndim != 3 or pixels.shape[0] != 3 or pixels.dtype != "float32":
            raise BadBatch(
                f"the preprocessor gave {pixels.dtype} {list(pixels.shape)}",
                where=where,
                expected="float32 [3, H, W]",
                fix=OWN_PROCESSOR,
            )
        return Loaded(self.packing.packed(pixels) if self.packing else pixels, not has_contrast(picture))

    def load_encoded(self, encoded: Encoded) -> Loaded:
        """The pixel values of a picture's file. Raises: BadSample, DataChanged, BadBatch."""
        return self.load(decode_unchanged(encoded), encoded.where)
