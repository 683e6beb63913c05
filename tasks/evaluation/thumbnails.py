"""Small pictures for the report, inside the page itself."""

from __future__ import annotations

import base64
import io

from tasks.data.base import Dataset

SIDE = 96  # pixels of the longer side at most
_QUALITY = 80


def thumbnail(dataset: Dataset, index: int) -> str:
    """The picture of sample `index` as the data URI of a JPEG of a few kilobytes.

    It is encoded anew, so that only the pixels of the file get into the page.

    Raises:
        BadSample, DataError: the picture is not what it was when it was embedded.
    """
    picture = dataset.image(index)
    picture.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
