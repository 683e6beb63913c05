"""The facts about a source of data, as `clipsmith data --json` prints them."""

from __future__ import annotations

from dataclasses import dataclass

from artifacts.errors import ClipsmithError
from tasks.data.base import Role

SHOWN = 5
"""The number of examples that are kept if there may be thousands."""


@dataclass(frozen=True)
class Spread:
    """The smallest, the median and the largest of some numbers."""

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
    """The classes in order. `alike`: groups of names that differ at most in case, Unicode form or white space."""

    published: bool
    templates: int
    counts: tuple[ClassCount, ...]
    alike: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class PictureFacts:
    """Facts about pictures with readable headers: sides in pixels, and how many there are of each mode and format."""

    width: Spread
    height: Spread
    modes: dict[str, int]
    formats: dict[str, int]


@dataclass(frozen=True)
class Copy:
    """A sample whose picture is also another sample's, and its class."""

    sample: str
    label: str | None


@dataclass(frozen=True)
class Repeated:
    """The number of groups of pictures with equal bytes, the number of pictures in them, and the first few groups."""

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
    """The number of samples that a run leaves out without failing, and the first few."""

    samples: int
    first: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Unlisted:
    """The number of picture files in the folder that belong to no sample, and the first few."""

    files: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """The number of samples whose picture is also in another source, and the first few, by their names in both."""

    source: str
    samples: int
    others: int
    first: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Refusal:
    """Why a run would fail before it computes anything: the source, the error's class, and the parts of its message."""

    source: str
    error: str
    what: str
    where: str | None
    expected: str | None
    fix: str | None

    @classmethod
    def of(cls, source: str, error: ClipsmithError) -> Refusal:
        """Make a refusal from an error."""
        return cls(source, type(error).__name__, error.what, error.where, error.expected, error.fix)


@dataclass(frozen=True)
class Holdings:
    """All facts about a source. Facts that are unknown, because opening the source was refused, are None.

    `notes` say what is unusual but not wrong about the source; most sources have none.
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
