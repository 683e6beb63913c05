"""The pictures of an evaluation set that an image encoder embeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.data.base import Classes, Dataset, Encoded, Sample

if TYPE_CHECKING:
    from PIL.Image import Image


def picture_places(dataset: Dataset) -> list[int]:
    """The indices of the samples whose pictures are embedded: each picture once, at its first caption.

    In a set with captions, equal pictures count as one. In a labelled set every sample counts, with its own label.
    """
    first: dict[tuple[str, int | None], int] = {}
    for place, sample in enumerate(dataset.samples):
        picture = sample.image_hash if dataset.classes is None else sample.picture or sample.id
        first.setdefault((picture, sample.label), place)
    return list(first.values())


@dataclass
class Selected:
    """The samples of a data set at `places`, in that order, as a data set."""

    whole: Dataset
    places: Sequence[int]

    def __post_init__(self) -> None:
        self.source: str = self.whole.source
        self.classes: Classes | None = self.whole.classes
        self.samples: Sequence[Sample] = [self.whole.samples[place] for place in self.places]

    def image(self, index: int) -> Image:
        """Decode the picture of a selected sample. Raises: BadSample."""
        return self.whole.image(self.places[index])

    def encoded(self, index: int) -> Encoded | None:
        """The picture's file of a selected sample; None if the set draws its pictures. Raises: DataError."""
        return self.whole.encoded(self.places[index])
