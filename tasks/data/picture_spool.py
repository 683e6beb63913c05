"""Preprocessed pictures of a set, kept on disk during a run, so that they are decoded once for all precisions and
engines.

They are in the store's cache, like unfinished work (`artifacts.store.unfinished`): a run after a kill goes on with the
sound chunks, and the collector removes what nobody uses. A picture is kept as bytes after resizing and cropping, if a
table of 3 x 256 values restores the processor's values (checked bit for bit for each picture); else as float32.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import closing
from itertools import islice

import numpy as np

from artifacts import fs
from artifacts.errors import BadSample, DiskFull
from artifacts.number_words import megabytes
from artifacts.refs import ArtifactRef, digest_json
from artifacts.store.store import active_store
from artifacts.store.unfinished import Partial
from tasks.checkpoints.preprocess import Preprocess
from tasks.data.base import Dataset
from tasks.data.batches import Outcomes, stacked
from tasks.data.loading import Loaded
from tasks.data.packing import Packing
from tasks.data.pinned import DataRef
from tasks.runs.steps import step_key

CHUNK = 64
"""Samples per chunk: 10 MB for pictures of 224 x 224 pixels."""
MARGIN = 2
"""How many times the pictures' size must be free on the disk, as a run writes other things too."""
_VERSION = 1
"""The version of how pictures are made, and of the form of a chunk."""
_PACKAGES = ("numpy", "pillow", "transformers")
_log = logging.getLogger(__name__)
_told: set[str] = set()
"""The spools whose lack of room has been logged."""


class PictureSpool:
    """Keeps what one processor makes of one set, packed, for those who stream the same set next.

    If another caller is using the spool, pictures are decoded without it.
    """

    def __init__(self, preprocess: ArtifactRef, data: DataRef, dataset: Dataset, processor: Preprocess) -> None:
        """`dataset` holds the pictures of `data` that are embedded; `processor` is the one in `preprocess`."""
        from PIL import Image as pil

        self._partial = _partial(preprocess, data)
        self._dataset = dataset
        self.packing = Packing(processor.levels())
        self._picture_bytes = self.packing.packed(processor.image(pil.new("RGB", (96, 96)))).nbytes

    def outcomes(self, start: int, decode: Callable[[int], Outcomes]) -> Outcomes:
        """The outcomes of all samples from `start`: the kept ones, then those of `decode`, which are kept as well."""
        with self._partial.alone() as mine:
            place, keep = 0, mine
            for data in self._partial.chunks() if mine else ():
                part = self._read(data, place)
                if part is None:
                    keep = False
                    break
                yield from part[max(0, start - place) :]
                place += len(part)
            keep = keep and self._has_room(self._picture_bytes, place)
            if mine and not keep:
                self._partial.discard()
            if not keep:  # samples before `start` that are not kept need not be decoded
                place = max(place, start)
            with closing(decode(place)) as fresh:
                while part := list(islice(fresh, CHUNK)):
                    keep = keep and self._kept(part, place)
                    yield from part[max(0, start - place) :]
                    place += len(part)

    def _has_room(self, each: float, place: int) -> bool:
        """Whether the disk has room for the pictures from `place`, at `each` bytes; if not, it is logged once."""
        needed, free = each * (len(self._dataset.samples) - place), fs.free_bytes(self._partial.root)
        if MARGIN * needed <= free:
            return True
        self._tell(f"{megabytes(MARGIN * needed, 0)} are needed, {megabytes(free, 0)} are free")
        return False

    def _tell(self, why: str) -> None:
        if self._partial.key not in _told:
            _told.add(self._partial.key)
            _log.warning(
                "the pictures of %s are not kept, and decoded for each precision and engine: %s",
                self._dataset.source,
                why,
            )

    # --- chunks ------------------------------------------------------------------------------------------------------

    def _kept(self, part: list[Loaded | BadSample], place: int) -> bool:
        """Write a chunk; if there is no room, remove all chunks."""
        good = [outcome for outcome in part if isinstance(outcome, Loaded)]
        pixels = [loaded.pixels for loaded in good]
        if any(each.dtype != np.uint8 for each in pixels):
            pixels = [self.packing.unpacked(each) for each in pixels]
        rows = np.ascontiguousarray(stacked(pixels)) if pixels else np.empty(0, np.uint8)
        bad = {n: [outcome.what, outcome.where] for n, outcome in enumerate(part) if isinstance(outcome, BadSample)}
        about = {
            "pictures": self._pictures(place, len(part)),
            "count": len(part),
            "bad": bad,
            "faint": [int(loaded.faint) for loaded in good],
            "dtype": rows.dtype.str,
            "shape": rows.shape,
        }
        try:
            if self._has_room(rows.nbytes / len(part), place):
                self._partial.add(b"".join((json.dumps(about).encode(), b"\n", rows.data)))
                return True
        except DiskFull as error:
            self._tell(str(error))
        self._partial.discard()
        return False

    def _read(self, data: bytes, place: int) -> list[Loaded | BadSample] | None:
        """The content of a chunk; None if it does not belong to the next pictures."""
        end = data.index(b"\n")
        about = json.loads(data[:end])
        if about["pictures"] != self._pictures(place, about["count"]):
            return None
        rows = np.frombuffer(data, about["dtype"], offset=end + 1).reshape(about["shape"])
        good = (Loaded(pixels, bool(faint)) for pixels, faint in zip(rows, about["faint"], strict=True))
        bad = {int(n): BadSample(what, where=where) for n, (what, where) in about["bad"].items()}
        return [bad.get(n) or next(good) for n in range(about["count"])]

    def _pictures(self, place: int, count: int) -> str:
        """The digest of the pictures of a chunk."""
        return digest_json([sample.image_hash for sample in self._dataset.samples[place : place + count]])


def discard_pictures(preprocess: ArtifactRef, data: DataRef) -> None:
    """Remove the kept pictures of a set and a processor, unless another run is using them."""
    partial = _partial(preprocess, data)
    with partial.alone() as mine:
        if mine:
            partial.discard()


def _partial(preprocess: ArtifactRef, data: DataRef) -> Partial:
    decided = {"preprocess": preprocess, "data": data.digest}
    return Partial(active_store(), step_key("pictures", _VERSION, _PACKAGES, decided))
