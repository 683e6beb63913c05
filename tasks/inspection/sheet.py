"""A contact sheet: pictures of every class, or pictures with captions, as one self-contained HTML page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from artifacts.errors import BadSample, ConfigError
from artifacts.number_words import counted
from artifacts.report.html_page import html_page
from tasks.data.base import Dataset
from tasks.data.subset import subset
from tasks.evaluation.thumbnails import thumbnail
from tasks.inspection import words
from tasks.inspection.counts import by_picture
from tasks.inspection.holdings import Holdings
from tasks.inspection.inspect_source import Watch

_TEMPLATE = Path(__file__).with_name("sheet.html")
_SUFFIXES = (".html", ".htm")
_PER_CLASS = 12
_CAPTIONED = 100  # pictures for a set without classes
_MOST = 1200  # pictures on a page: a few megabytes
_CAPTIONS = 5  # captions per picture
_LONGEST = 300  # characters of a caption, a label or an id
_short = partial(words.plain, longest=_LONGEST)


@dataclass(frozen=True)
class _Picture:
    """One picture of the sheet; `source` is the data URI of a JPEG, or None if the picture cannot be decoded."""

    id: str
    source: str | None
    captions: tuple[str, ...]


@dataclass(frozen=True)
class _Group:
    """A class or, without a name, the pictures of a set with captions."""

    name: str | None
    count: str
    pictures: tuple[_Picture, ...]


def check_place(page: Path) -> None:
    """Raise ConfigError if the page cannot be written there, or would overwrite another kind of file; called first."""
    if page.suffix.lower() not in _SUFFIXES or page.is_dir() or not page.absolute().parent.is_dir():
        raise ConfigError(
            f"no page can be written to {str(page)!r}",
            expected="a name that ends in .html, in a folder that is there",
            fix="name another file, for example: --page sheet.html",
        )


def write_sheet(dataset: Dataset, found: Holdings, page: Path, watch: Watch) -> None:
    """Write the sheet of an opened source: up to 12 pictures of each class, or 100 pictures with their captions.

    Pictures are drawn at random with a fixed seed. With very many classes there are fewer of each, then fewer classes.

    Raises:
        ConfigError: the page cannot be written.
        DataError: the source changed since it was opened.
    """
    check_place(page)
    drawn = _drawn(dataset)
    total = sum(len(places) for _, _, places in drawn)
    with watch("making small pictures", total) as advance:
        groups = [
            _Group(name, count, tuple(_pictures(dataset, places, advance))) for name, count, places in drawn if places
        ]
    text = render_sheet(found, groups)
    partial = page.with_name(f".{page.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(page)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(
            f"the page cannot be written: {error.strerror}", where=page, fix="name another file"
        ) from error


def render_sheet(found: Holdings, groups: Sequence[_Group]) -> str:
    """The sheet as HTML."""
    empty = [each.name for each in found.classes.counts if not each.samples] if found.classes else []
    return html_page(
        _TEMPLATE,
        source=words.plain(found.source, _LONGEST),
        headline=words.headline(found),
        facts=_paragraphs(words.lines(found)),
        refusals=[[told for _, told in words.refusal(each, found)] for each in found.refusals],
        groups=groups,
        empty=[_short(name) for name in empty],
        classes=len(found.classes.counts) if found.classes else 0,
    )


# --- what is shown -----------------------------------------------------------------------------------------


def _drawn(dataset: Dataset) -> list[tuple[str | None, str, list[list[int]]]]:
    """For each class its name, its number of samples in words, and the pictures to show (indices of their samples)."""
    pictures = list(by_picture(dataset).values())
    if dataset.classes is None:
        shown = [pictures[place] for place in subset(len(pictures), _CAPTIONED)]
        return [(None, f"{len(shown):,} of {len(pictures):,} pictures", shown)]
    of_class: dict[int | None, list[list[int]]] = {}
    for places in pictures:
        of_class.setdefault(dataset.samples[places[0]].label, []).append(places)
    full = [number for number in range(len(dataset.classes.names)) if number in of_class]
    per_class = max(1, min(_PER_CLASS, _MOST // max(1, len(full))))
    found: list[tuple[str | None, str, list[list[int]]]] = []
    for number in (full[place] for place in subset(len(full), _MOST)):
        own = of_class[number]
        shown = [own[place] for place in subset(len(own), per_class)]
        samples = counted(sum(map(len, own)), "sample")
        count = samples if len(shown) == len(own) else f"{len(shown)} of {samples}"
        found.append((_short(dataset.classes.names[number]), count, shown))
    return found


def _pictures(
    dataset: Dataset, pictures: Sequence[Sequence[int]], advance: Callable[[int], None]
) -> Iterator[_Picture]:
    for places in pictures:
        try:
            source = thumbnail(dataset, places[0])
        except BadSample:
            source = None
        captions = [] if dataset.classes else [_short(dataset.samples[place].caption) for place in places]
        more = len(captions) - _CAPTIONS
        told = (*captions[:_CAPTIONS], *([f"and {more} more"] if more > 0 else []))
        yield _Picture(_short(dataset.samples[places[0]].id), source, told)
        advance(1)


def _paragraphs(told: Iterator[words.Line]) -> list[tuple[str, list[str]]]:
    """The lines, grouped by subject."""
    found: list[tuple[str, list[str]]] = []
    for name, text in told:
        if name or not found:
            found.append((name, []))
        found[-1][1].append(text)
    return found
