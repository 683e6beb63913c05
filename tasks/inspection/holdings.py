"""What a source of data holds, as facts: what `clipsmith data --json` prints."""

from __future__ import annotations

from dataclasses import dataclass

from artifacts.errors import ClipsmithError
from tasks.data.base import Role

SHOWN = 5
"""Examples that are kept of anything of which there may be thousands."""


@dataclass(frozen=True)
class Spread:
    """The smallest, the middle and the largest of some numbers."""

    min: int
    median: float
    max: int


@dataclass(frozen=True)
class ClassCount:
    """One class and how many samples it has."""

    name: str
    samples: int


@dataclass(frozen=True)
class ClassFacts:
    """The classes in their order. `alike`: names of which the differences are case, Unicode form or white space."""

    published: bool
    templates: int
    counts: tuple[ClassCount, ...]
    alike: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class PictureFacts:
    """Of pictures whose headers could be read: sides in pixels; how many there are of each mode and format."""

    width: Spread
    height: Spread
    modes: dict[str, int]
    formats: dict[str, int]


@dataclass(frozen=True)
class Copy:
    """A sample whose picture another sample has too, and its class."""

    sample: str
    label: str | None


@dataclass(frozen=True)
class Repeated:
    """Groups of pictures with the same bytes, how many pictures are in them, and the first few groups."""

    groups: int
    pictures: int
    first: tuple[tuple[Copy, ...], ...]


@dataclass(frozen=True)
class LeftOut:
    """A sample that a run leaves out."""

    sample: str
    why: str


@dataclass(frozen=True)
class Skipped:
    """Samples that a run leaves out and goes on, and the first few."""

    samples: int
    first: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Unlisted:
    """Picture files that lie in the folder and are in no sample, and the first few."""

    files: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """Samples whose picture another source has too; the first few by their names here and there."""

    source: str
    samples: int
    others: int
    first: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Refusal:
    """Why a run would end before it computes anything: the source, the error's class, and its message in parts."""

    source: str
    error: str
    what: str
    where: str | None
    expected: str | None
    fix: str | None

    @classmethod
    def of(cls, source: str, error: ClipsmithError) -> Refusal:
        """The refusal that an error stands for."""
        return cls(source, type(error).__name__, error.what, error.where, error.expected, error.fix)


@dataclass(frozen=True)
class Holdings:
    """All of it. What could not be found out, because the source is refused when it is opened, is None.

    `notes` are what a source says of itself that is odd without being wrong; most have nothing to say.
    """

    source: str
    role: Role
    limit: int | None
    refusals: tuple[Refusal, ...]
    files: dict[str, int] | None = None
    place: str | None = None
    samples: int | None = None
    pictures: int | None = None
    captions: Spread | None = None
    classes: ClassFacts | None = None
    stored: PictureFacts | None = None
    repeated: Repeated | None = None
    two_labels: Repeated | None = None
    skipped: Skipped | None = None
    unlisted: Unlisted | None = None
    overlap: Overlap | None = None
    notes: tuple[str, ...] = ()
    page: str | None = None
