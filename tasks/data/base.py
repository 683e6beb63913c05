"""The interface of data sources: samples with stable ids and content hashes, decoded one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

from artifacts.errors import DataError
from artifacts.refs import digest_json
from tasks.data import limits

if TYPE_CHECKING:
    from PIL.Image import Image

Role = Literal["calibration", "evaluation"]
Key = TypeVar("Key", bound=Hashable)
_HASH_THREADS = 4
"""More wait for each other: on 16 cores, a file of 60 kB takes 34 microseconds by 4 threads, 48 by 8 or 16."""
_HASH_GROUP = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its caption and, where known, its class.

    `image_hash` is the sha256 of the stored image bytes (pixels for built-in sets): it finds overlap between sets.
    `picture` is equal for samples that are captions of one picture; it is empty if each `id` is one picture.
    """

    id: str
    image_hash: str
    caption: str
    label: int | None = None
    picture: str = ""


class Encoded(NamedTuple):
    """A picture as it is stored: the bytes of its file, their sha256 when the set was opened, and their origin, for
    messages."""

    data: bytes
    image_hash: str
    where: str


@dataclass(frozen=True)
class Classes:
    """The classes of a labelled set: names and prompt templates with one `{}` for the name.

    `published` names are a list that comes with the set, in which two may be equal; others are a user's labels.
    """

    names: tuple[str, ...]
    templates: tuple[str, ...]
    published: bool = False

    def __post_init__(self) -> None:
        """Raise DataError if names times templates are more prompts than the limit."""
        if len(self.names) * len(self.templates) > limits.PROMPTS:
            raise DataError(
                f"{len(self.names):,} class names in {len(self.templates):,} templates",
                expected=f"at most {limits.PROMPTS:,} prompts",
                fix="give fewer templates, or a set of fewer classes",
            )


def numbered(names: Sequence[str]) -> Iterator[str]:
    """Unique ids for captions, from the names of their pictures: `name`, then `name#2`, `name#3`; a number is skipped
    if a picture has that name."""
    taken, seen = set(names), set()
    for name in names:
        free = name
        if name in seen:
            free = next(free for number in count(2) if (free := f"{name}#{number}") not in taken)
            taken.add(free)
        seen.add(name)
        yield free


def hashed(keys: Sequence[Key], digest: Callable[[Key], str]) -> dict[Key, str]:
    """The digest of each different key; several are computed at once."""
    unique = list(dict.fromkeys(keys))
    # In groups: handing over a key alone costs more than the digest of a small file.
    groups = [unique[start : start + _HASH_GROUP] for start in range(0, len(unique), _HASH_GROUP)]
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        return {
            key: made
            for group in pool.map(lambda group: [(key, digest(key)) for key in group], groups)
            for key, made in group
        }


class Dataset(Protocol):
    """An opened source. Opening reads ids and hashes; images are decoded when asked for."""

    source: str
    samples: Sequence[Sample]
    classes: Classes | None

    def image(self, index: int) -> Image:
        """Decode sample `index` to an RGB picture. Raises: BadSample."""
        ...

    def encoded(self, index: int) -> Encoded | None:
        """The file that `image` decodes, for decoding elsewhere (`images.decode_unchanged`); None if the set draws its
        pictures.

        Raises:
            DataError: the file changed or went away after the set was opened.
        """
        ...


class Source(Dataset, Protocol):
    """An opened data set. `files` are the local files and folders that its content depends on; none for a set on the
    hub. `notes` say what is unusual but not wrong about it, one sentence each."""

    files: Sequence[Path]
    notes: Sequence[str]

    def stored(self, index: int) -> bytes | Path | None:
        """The file of sample `index`'s picture: its bytes, or its path; None if the source draws its pictures.

        Raises:
            DataError: the file changed or went away after the set was opened.
        """


def label_counts(samples: Iterable[Sample]) -> Counter[int]:
    """How many samples each class has; those without a class are not counted."""
    return Counter(sample.label for sample in samples if sample.label is not None)


def dataset_digest(dataset: Dataset) -> str:
    """sha256 over every sample's id, image hash, caption and label, in order, and over the classes."""
    rows = [[sample.id, sample.image_hash, sample.caption, sample.label] for sample in dataset.samples]
    classes = None if dataset.classes is None else [dataset.classes.names, dataset.classes.templates]
    return digest_json([rows, classes])
