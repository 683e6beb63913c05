"""The built-in data set: scikit-learn's 1,797 handwritten digits, split once and for all into two roles."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import ConfigError, DataNotFound
from tasks.data.base import Classes, Role, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

CLASSES = Classes(
    names=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    templates=(
        "a photo of the digit {}",
        "a handwritten {}",
        "a scan of the number {}",
        "a blurry picture of a handwritten {}",
        "the digit {} written by hand",
        "a small grey image of the number {}",
        "somebody wrote the number {} on paper",
    ),
    published=True,
)

_COUNT = 1797
_SIDE = 8  # pixels along a stored picture's edge
_WHITE = 16  # the brightest stored value
_RENDERED_SIDE = 32
_HELD_OUT_PER_CLASS = 50
_SPLIT_SEED = 20  # changing it puts training pictures of the shipped demo model among the held-out ones


class Digits:
    """Handwritten digits as 32x32 RGB pictures: 1,297 for calibration and training, 500 held out for evaluation.

    The roles share no picture. The order is fixed and cycles through the classes, so the first 10 * n samples hold
    every class n times (up to the size of the smallest class). `limit` keeps the first `limit` samples.

    Raises:
        ConfigError: `limit` is below 1.
        DataNotFound: scikit-learn, which ships the pictures, is missing or incomplete.
    """

    source = "digits"
    classes: Classes | None = CLASSES
    notes: Sequence[str] = ()

    def __init__(self, role: Role, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ConfigError(f"a limit of {limit} digits leaves nothing to work on", expected="1 or more, or none")
        pixels, labels = _load()
        self.files: Sequence[Path] = (_packaged_file(),)
        rows = _split(labels)[role][:limit]
        self._pixels = pixels[rows]  # (N, 64) uint8, 0..16
        self.samples: Sequence[Sample] = tuple(_sample(int(row), pixels[row], int(labels[row])) for row in rows)

    def stored(self, index: int) -> None:
        """None: there are no files of single pictures."""

    def encoded(self, index: int) -> None:
        """None: there are no files of single pictures."""

    def image(self, index: int) -> Image:
        """Sample `index` as a 32x32 RGB picture: 0..16 stretched to 0..255, then enlarged bilinearly."""
        from PIL import Image

        grey = np.rint(self._pixels[index] * (255 / _WHITE)).astype(np.uint8).reshape(_SIDE, _SIDE)
        size = (_RENDERED_SIDE, _RENDERED_SIDE)
        return Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR).convert("RGB")


def _sample(row: int, pixels: NDArray[np.uint8], label: int) -> Sample:
    template = CLASSES.templates[row % len(CLASSES.templates)]
    return Sample(
        id=f"digits/{row:04d}",
        image_hash=hashlib.sha256(pixels.tobytes()).hexdigest(),
        caption=template.format(CLASSES.names[label]),
        label=label,
    )


def _split(labels: NDArray[np.uint8]) -> dict[Role, NDArray[np.intp]]:
    """The row indices of each role, in order; `labels` are (1797,) uint8."""
    shuffled = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.intp)  # of each shuffled row within its class
    for label in range(len(CLASSES.names)):
        members = labels[shuffled] == label
        rank[members] = np.arange(np.count_nonzero(members))
    by_rank = np.argsort(rank, kind="stable")
    held_out = _HELD_OUT_PER_CLASS * len(CLASSES.names)
    return {"evaluation": shuffled[by_rank[:held_out]], "calibration": shuffled[by_rank[held_out:]]}


def _load() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """All pictures (1797, 64) uint8 with values 0..16, and their labels (1797,) uint8.

    It reads the file inside the scikit-learn package, as importing scikit-learn would take over a second.

    Raises:
        DataNotFound: the package or the file is missing, unreadable or of another shape.
    """
    path = _packaged_file()
    try:
        with gzip.open(path, "rt", encoding="ascii") as stream:
            table = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _unusable(f"the built-in digits cannot be read: {error}", path) from error
    if table.shape != (_COUNT, _SIDE * _SIDE + 1):
        raise _unusable(f"the built-in digits are a table of shape {table.shape}", path)
    return table[:, :-1], table[:, -1]


def _packaged_file() -> Path:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise _unusable("the built-in digits come with scikit-learn, which is not installed", None)
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"


def _unusable(what: str, where: Path | None) -> DataNotFound:
    expected = f"scikit-learn's digits.csv.gz: {_COUNT} rows of {_SIDE * _SIDE} pixels and a label"
    return DataNotFound(what, where=where, expected=expected, fix="reinstall scikit-learn, or name another data source")
