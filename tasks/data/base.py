"""What a data source gives: samples with stable ids and content hashes, decoded one at a time."""

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
_HASH_THREADS = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its caption and, where known, its class.

    `image_hash` is the sha256 of the stored image bytes (pixels for built-in sets): it finds overlap between sets.
    `picture` is the same for samples that are several captions of one picture; empty where `id` says it.
    """

    id: str
    image_hash: str
    caption: str
    label: int | None = None
    picture: str = ""


class Encoded(NamedTuple):
    """A picture as it is stored: the bytes of its file, their sha256 when the set was opened, and where they lie, for
    messages."""

    data: bytes
    image_hash: str
    where: str


@dataclass(frozen=True)
class Classes:
    """The classes of a labelled set: names and prompt templates with one `{}` for the name.

    `published`: the names are a list that comes with the set, of which two may be alike; others are a user's labels.
    """

    names: tuple[str, ...]
    templates: tuple[str, ...]
    published: bool = False

    def __post_init__(self) -> None:
        """Raise DataError when there would be more prompts than anybody embeds."""
        if len(self.names) * len(self.templates) > limits.PROMPTS:
            raise DataError(
                f"{len(self.names):,} class names in {len(self.templates):,} templates",
                expected=f"at most {limits.PROMPTS:,} prompts",
                fix="give fewer templates, or a set of fewer classes",
            )


def numbered(names: Sequence[str]) -> Iterator[str]:
    """Ids for captions by the names of their pictures: `name`, then `name#2`, `name#3`; a number is passed over when a
    picture has that name."""
    taken, seen = set(names), set()
    for name in names:
        free = name
        if name in seen:
            free = next(free for number in count(2) if (free := f"{name}#{number}") not in taken)
            taken.add(free)
        seen.add(name)
        yield free


def hashed(keys: Sequence[Key], digest: Callable[[Key], str]) -> dict[Key, str]:
    """The digest of each different key, several at once."""
    unique = list(dict.fromkeys(keys))
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        return dict(zip(unique, pool.map(digest, unique), strict=True))


class Dataset(Protocol):
    """An opened source. Opening reads ids and hashes; images are decoded when asked for."""

    source: str
    samples: Sequence[Sample]
    classes: Classes | None

    def image(self, index: int) -> Image:
        """Decode sample `index` to an RGB picture. Raises: BadSample."""
        ...

    def encoded(self, index: int) -> Encoded | None:
        """What `image` decodes, to be decoded elsewhere (`images.decode_unchanged`); None where the set draws its
        pictures.

        Raises:
            DataError: the file changed or went away after the set was opened.
        """
        ...


class Source(Dataset, Protocol):
    """A data set as it was opened. `files` are the files and folders of this machine that decide what is in it, by the
    paths that they were found at; none where the hub decides. `notes` say what is odd about it without being wrong, a
    sentence each."""

    files: Sequence[Path]
    notes: Sequence[str]

    def stored(self, index: int) -> bytes | Path | None:
        """The file of sample `index`'s picture: its bytes, or where it lies; None where the source draws its pictures.

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
