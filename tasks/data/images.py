"""One image file to one RGB picture: every mode has a defined conversion, everything else is a BadSample."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import BadSample, DataChanged
from tasks.data import limits
from tasks.data.base import Encoded

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 64_000_000
# The largest aspect ratio: preprocessing scales the short side to about 224 pixels, so a 1 x 1,000,000 strip would grow
# to gigabytes.
MAX_ASPECT = 100
# An allow-list because some Pillow formats run other programs (EPS: Ghostscript) or nest other images (ICO, PSD).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

# What Pillow's decoders raise on damaged files: SyntaxError is how its PNG reader says "broken chunk", RuntimeError
# comes from its AVIF reader.
UNREADABLE = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error, zlib.error)
_GREY_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
_ORIENTATION_TAG = 0x0112
_HEAD = 4096  # bytes
_NETPBM, _COMMENT, _NUMBERS = re.compile(rb"P[1-6fy0]\s"), re.compile(rb"#[^\r\n]*"), 3
"""The first bytes and the header fields of PPM and similar formats: Pillow needs quadratic time for a long comment in
the header."""
_SCAN = b"\xff\xda"
"""The marker before each scan of a JPEG; in compressed data each 0xff is followed by a zero."""
_REPLACE = "replace the file or remove its row"
_NO_PICTURES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the picture itself", "git lfs pull"),
    (b"ftyphei", "a HEIC picture, which is not read here", "convert it to JPEG"),
    (b"ftypmif1", "a HEIF picture, which is not read here", "convert it to JPEG"),
    (b"<svg", "an SVG drawing, which has no pixels", "draw it at the size that it is seen at, as PNG"),
    (b"<html", "a web page: what a server answered instead of the picture", _REPLACE),
    (b"<!doctype html", "a web page: what a server answered instead of the picture", _REPLACE),
    (b"%pdf", "a PDF document", _REPLACE),
)
"""Files that are often found in place of pictures: (bytes near the start, what they are, what to do)."""
_LEAST_RANGE = 16
_LOOKED_AT = 64


def decode_rgb(data: bytes | Path, where: str) -> Image:
    """Decode an image file (its bytes, or a path) to an upright 8-bit RGB picture.

    EXIF orientation is applied; of several frames the first is taken; 16-bit greyscale is scaled to 8 bits, not
    clipped. All else is Pillow's conversion to RGB, as in the image processors of CLIP models: the alpha channel is
    dropped, palette, CMYK and bilevel pictures are converted, colour profiles are ignored.

    Raises:
        BadSample: not an image of a known format, truncated or corrupt, or too large to decode safely.
    """
    with _bad_sample(where), _opened(data, where) as image:
        if isinstance(data, bytes) and image.format == "JPEG" and data.count(_SCAN) > limits.SCANS:
            raise _bomb(f"a JPEG of {data.count(_SCAN):,} scans", where)
        return _picture(image, where)


def _opened(data: bytes | Path, where: str) -> ImageFile:
    """The picture with its header read.

    Raises:
        BadSample: the format is not known; the message says what the first bytes suggest.
    """
    from PIL import Image as pil
    from PIL import UnidentifiedImageError

    start = _beginning(data)
    if _NETPBM.match(start) and len(_COMMENT.sub(b"", start).split()) < _NUMBERS:
        raise _undecodable(f"a header that does not end within {_HEAD} bytes", where, _REPLACE)
    try:
        return pil.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=formats())
    except UnidentifiedImageError as error:
        what, fix = _told_by(start)
        raise _undecodable(what, where, fix) from error


def _beginning(data: bytes | Path) -> bytes:
    if isinstance(data, bytes):
        return data[:_HEAD]
    with data.open("rb") as stream:
        return stream.read(_HEAD)


def _told_by(beginning: bytes) -> tuple[str, str]:
    """What a file of no known picture format is, and what to do, by its first bytes."""
    if not beginning:
        return "the file is empty", _REPLACE
    found = next((words for mark, *words in _NO_PICTURES if mark in beginning.lower()), None)
    return (found[0], found[1]) if found else ("none of the known formats", _REPLACE)


def has_contrast(picture: Image) -> bool:
    """Whether an RGB picture uses more than a sixteenth of the 256 levels. Pictures with 12 bits stored as 16, or 0 to
    255 stored as 32 bits, do not: any model sees them as nearly black.

    A few thousand pixels are checked first, which takes microseconds; all pixels only if those have no contrast.
    """
    from PIL import Image as pil

    few = picture.resize((min(picture.width, _LOOKED_AT), min(picture.height, _LOOKED_AT)), pil.Resampling.NEAREST)
    return _has_range(few) or _has_range(picture)


def _has_range(picture: Image) -> bool:
    import numpy as np

    return bool(np.ptp(np.asarray(picture), axis=(0, 1)).max() > _LEAST_RANGE)


def opened_rgb(image: Image, where: str) -> Image:
    """As `decode_rgb`, for a picture that Pillow has opened or made already.

    Raises:
        BadSample: truncated or corrupt, or too large to decode safely.
    """
    with _bad_sample(where):
        return _picture(image, where)


def is_too_large(width: int, height: int) -> bool:
    """Whether a picture of so many pixels is refused by its header."""
    return width * height > MAX_PIXELS or max(width, height) > MAX_ASPECT * min(width, height)


def _picture(image: Image, where: str) -> Image:
    width, height = image.size  # only the header was read so far
    if is_too_large(width, height):
        raise _bomb(f"the header asks for {width} x {height} pixels", where)
    image.load()
    return _to_rgb(_upright(image))


@contextmanager
def _bad_sample(where: str) -> Iterator[None]:
    from PIL import Image as pil

    try:
        yield
    except (pil.DecompressionBombError, pil.DecompressionBombWarning) as error:
        raise _bomb(str(error), where) from error
    except UNREADABLE as error:
        raise _undecodable(f"{error or type(error).__name__}", where, _REPLACE) from error


def _undecodable(what: str, where: str, fix: str) -> BadSample:
    expected = f"a complete image file ({', '.join(formats())})"
    return BadSample(f"the image cannot be decoded: {what}", where=where, expected=expected, fix=fix)


def decode_unchanged(encoded: Encoded) -> Image:
    """`decode_rgb`, after checking that the bytes are still those that were hashed when the set was opened.

    Raises:
        DataChanged: the bytes changed, so the digest of the set would not describe what was used.
        BadSample: as for `decode_rgb`.
    """
    data, image_hash, where = encoded
    if hashlib.sha256(data).hexdigest() != image_hash:
        raise DataChanged(
            "the image changed after the data set was opened",
            where=where,
            expected=f"bytes with sha256 {image_hash}",
            fix="run again once nothing writes to the data set",
        )
    return decode_rgb(data, where)


class Stored:
    """A data set whose pictures are stored as files are."""

    def encoded(self, index: int) -> Encoded:
        """The bytes of sample `index`'s picture. Raises: DataError: they went away after the set was opened."""
        raise NotImplementedError

    def image(self, index: int) -> Image:
        """Decode sample `index` to an RGB picture.

        Raises:
            BadSample: what is stored is not a complete image.
            DataError: it changed or went away after the set was opened.
        """
        return decode_unchanged(self.encoded(index))


@cache
def formats() -> tuple[str, ...]:
    """The formats of the allow-list that this build of Pillow supports; for others Pillow raises KeyError."""
    from PIL import Image as pil

    pil.init()
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # a TIFF gives one per broken tag
    return tuple(name for name in FORMATS if name in pil.OPEN)


def _bomb(what: str, where: str) -> BadSample:
    return BadSample(
        f"decompression bomb: {what}",
        where=where,
        expected=f"at most {MAX_PIXELS:,} pixels, one side at most {MAX_ASPECT} times the other",
        fix="scale the image down or remove its row",
    )


def _upright(image: Image) -> Image:
    """Apply the EXIF orientation. (`ImageOps.exif_transpose` fails on EXIF data that it cannot write back.)"""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(image.getexif().get(_ORIENTATION_TAG, 1))
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image) -> Image:
    if image.mode in _GREY_MODES:
        return _grey_to_8_bit(image).convert("RGB")
    image.info.pop("transparency", None)  # else Pillow warns that it is dropped
    return image.convert("RGB")


def _grey_to_8_bit(image: Image) -> Image:
    """Scale deep greyscale to 8 bits.

    Whole numbers of 0..65535 are 16-bit samples and fractions of 0..1 are shares of white; any other range
    has no defined white, so it is stretched from its smallest to its largest value.

    Raises:
        ValueError: NaN or infinite pixels.
    """
    import numpy as np
    from PIL import Image as pil

    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("NaN or infinite pixels")
    low, high = 0.0, 1.0 if image.mode == "F" else 65535.0
    if values.min() < low or values.max() > high:
        low, high = float(values.min()), float(values.max())
    for work, number in ((np.subtract, low), (np.divide, high - low or 1.0), (np.multiply, 255)):
        work(values, number, out=values)  # in place: the largest picture has half a gigabyte
    return pil.fromarray(np.rint(values, out=values).astype(np.uint8))
