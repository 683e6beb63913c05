"""The pictures of an evaluation set that an image encoder is run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.data.base import Classes, Dataset, Sample

if TYPE_CHECKING:
    from PIL.Image import Image


def picture_places(dataset: Dataset) -> list[int]:
    """The samples whose pictures are embedded: all of a labelled set; of a set of captions each picture once, at the
    first of its captions."""
    if dataset.classes is not None:
        return list(range(len(dataset.samples)))
    first: dict[str, int] = {}
    for place, sample in enumerate(dataset.samples):
        first.setdefault(sample.image_hash, place)
    return list(first.values())


@dataclass
class Selected:
    """Some samples of a data set, by their places and in that order, as a data set."""

    whole: Dataset
    places: Sequence[int]

    def __post_init__(self) -> None:
        self.source: str = self.whole.source
        self.classes: Classes | None = self.whole.classes
        self.samples: Sequence[Sample] = [self.whole.samples[place] for place in self.places]

    def image(self, index: int) -> Image:
        """Decode the picture of one of them. Raises: BadSample."""
        return self.whole.image(self.places[index])
