"""The header of a sample's picture: size, mode and file format as stored, without decoding a pixel."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from artifacts.errors import BadSample
from tasks.data.base import Source
from tasks.data.images import UNREADABLE, decode_rgb, formats, is_too_large

NO_FILE = "none"
"""The name of the format of pictures that a source draws itself."""
_THREADS = 4
_AT_ONCE = 512  # queued pictures, so that memory does not grow with the set
_UNKNOWN = re.compile(r"cannot identify image file .*", re.DOTALL)  # continues with a memory address or a path


@dataclass(frozen=True, slots=True)
class Header:
    """Width and height in pixels, before EXIF's rotation, and Pillow's names of the mode and the format."""

    width: int
    height: int
    mode: str
    format: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a run leaves a picture out."""

    why: str


def read_headers(
    dataset: Source, places: Sequence[int], advance: Callable[[int], None]
) -> Iterator[Header | Unreadable]:
    """The headers of the pictures at `places`, in that order; `advance` is called with the number of finished ones.

    Raises:
        DataError: a source changed or went away since it was opened.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="clipsmith-headers") as pool:
        for begin in range(0, len(places), _AT_ONCE):
            part = places[begin : begin + _AT_ONCE]
            yield from pool.map(lambda place: _header(dataset, place), part)
            advance(len(part))


def _header(dataset: Source, index: int) -> Header | Unreadable:
    try:
        stored = dataset.stored(index)
        if stored is None:
            picture = dataset.image(index)
            return Header(*picture.size, picture.mode, NO_FILE)
        found = _of_file(stored)
        if found is None or is_too_large(found.width, found.height):
            decode_rgb(stored, dataset.samples[index].id)  # raises the error that a run would raise
    except BadSample as error:
        return Unreadable(_UNKNOWN.sub("not an image file of a known format", error.what))
    return found or Unreadable("the header cannot be read")


def _of_file(stored: bytes | Path) -> Header | None:
    from PIL import Image as pil

    try:
        with pil.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored, formats=formats()) as image:
            return Header(*image.size, image.mode, image.format or NO_FILE)
    except (pil.DecompressionBombError, *UNREADABLE):
        return None
