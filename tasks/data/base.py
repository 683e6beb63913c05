"""What a data source gives: samples with stable ids and content hashes, decoded one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from artifacts.refs import digest_json

if TYPE_CHECKING:
    from PIL.Image import Image

Role = Literal["calibration", "evaluation"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its caption and, where known, its class.

    `image_hash` is the sha256 of the stored image bytes (pixels for built-in sets): it finds overlap between sets.
    """

    id: str
    image_hash: str
    caption: str
    label: int | None = None


@dataclass(frozen=True)
class Classes:
    """The classes of a labelled set: names and prompt templates with one `{}` for the name."""

    names: tuple[str, ...]
    templates: tuple[str, ...]


class Dataset(Protocol):
    """An opened source. Opening reads ids and hashes; images are decoded when asked for."""

    source: str
    samples: Sequence[Sample]
    classes: Classes | None

    def image(self, index: int) -> Image:
        """Decode sample `index` to an RGB picture. Raises: BadSample."""
        ...


def dataset_digest(dataset: Dataset) -> str:
    """sha256 over every sample's id, image hash, caption and label, in order, and over the classes."""
    rows = [[sample.id, sample.image_hash, sample.caption, sample.label] for sample in dataset.samples]
    classes = None if dataset.classes is None else [dataset.classes.names, dataset.classes.templates]
    return digest_json([rows, classes])
