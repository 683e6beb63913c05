"""Inspecting a source as a run would, without computing anything: open it, count, read headers, make a run's checks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath

from artifacts.errors import BadSample, ClipsmithError, DataError
from artifacts.exit_codes import ExitCode
from tasks.data import check_classes, check_disjoint, check_distinct, check_enough, open_dataset
from tasks.data.base import Dataset, Role, Source
from tasks.data.batches import MAX_BAD_SHARE
from tasks.inspection.counts import by_picture, class_facts, overlap, repeated, spread
from tasks.inspection.headers import Header, Unreadable, read_headers
from tasks.inspection.holdings import SHOWN, Holdings, LeftOut, Overlap, PictureFacts, Refusal, Skipped, Unlisted

Watch = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Reports progress to the caller: `with watch("reading headers", 500) as advance: advance(20)`."""
_BUILT_IN = "digits"  # never a folder, even if there is one of that name
_PICTURES = frozenset({".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Suffixes, in lower case."""


@dataclass(frozen=True)
class Question:
    """What to inspect: a source in its role, at most `limit` samples of it, and another source to compare it with;
    `columns`, as for `open_dataset`, apply to both."""

    source: str
    role: Role = "evaluation"
    limit: int | None = None
    columns: str | None = None
    against: str | None = None
    against_limit: int | None = None


@dataclass(frozen=True)
class Inspection:
    """The facts, and the opened source (None if opening it was refused)."""

    holdings: Holdings
    dataset: Source | None


def inspect_source(asked: Question, watch: Watch) -> Inspection:
    """The facts about a source, and every reason why a run would refuse it.

    Raises:
        ConfigError: the source or a limit is malformed.
        DataUnreachable: the hub does not answer.
        DataError: the source changed while it was read.
    """
    refusals: list[Refusal] = []
    dataset = _opened(asked, asked.source, asked.role, asked.limit, watch, refusals)
    names = list(_files_of(asked.source))
    if dataset is None:
        known = Holdings(asked.source, asked.role, asked.limit, tuple(refusals), _by_suffix(names))
        return Inspection(known, None)
    pictures = by_picture(dataset)
    stored, skipped = _headers(dataset, list(pictures.values()), watch)
    refusals += _asked_of(dataset, asked, skipped)
    shared = _shared(dataset, asked, watch, refusals)
    copies, two_labels = repeated(dataset, pictures.values())
    holdings = Holdings(
        source=asked.source,
        place=dataset.source,
        role=asked.role,
        limit=asked.limit,
        samples=len(dataset.samples),
        pictures=len(pictures),
        captions=spread([len(places) for places in pictures.values()]),
        classes=class_facts(dataset),
        stored=stored,
        repeated=copies,
        two_labels=two_labels,
        skipped=skipped,
        files=_by_suffix(names),
        unlisted=_unlisted(asked, dataset, names),
        overlap=shared,
        notes=tuple(dataset.notes),
        refusals=tuple(refusals),
    )
    return Inspection(holdings, dataset)


def _opened(
    asked: Question, source: str, role: Role, limit: int | None, watch: Watch, refusals: list[Refusal]
) -> Source | None:
    """Open a source; if it is refused, append to `refusals` and return None."""
    try:
        with watch(f"reading and hashing {source}", None):
            return open_dataset(source, role, limit, asked.columns)
    except DataError as error:
        if error.exit_code != ExitCode.WRONG_INPUT:  # the hub does not answer, say, so nothing is known of the source
            raise
        refusals.append(Refusal.of(source, error))
        return None


# --- pictures ----------------------------------------------------------------------------------------------


def _headers(dataset: Source, pictures: Sequence[Sequence[int]], watch: Watch) -> tuple[PictureFacts | None, Skipped]:
    widths: list[int] = []
    heights: list[int] = []
    first: list[LeftOut] = []
    lost = 0
    modes: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    with watch("reading headers", len(pictures)) as advance:
        found = read_headers(dataset, [places[0] for places in pictures], advance)
        for places, header in zip(pictures, found, strict=True):
            if isinstance(header, Unreadable):
                lost += len(places)
                if len(first) < SHOWN:
                    first.append(LeftOut(dataset.samples[places[0]].id, header.why))
                continue
            assert isinstance(header, Header)
            widths.append(header.width)
            heights.append(header.height)
            modes[header.mode] += 1
            formats[header.format] += 1
    wide, high = spread(widths), spread(heights)
    skipped = Skipped(lost, tuple(first))
    if wide is None or high is None:
        return None, skipped
    return PictureFacts(wide, high, dict(modes.most_common()), dict(formats.most_common())), skipped


# --- what a run asks of a set ------------------------------------------------------------------------------


def _asked_of(dataset: Dataset, asked: Question, skipped: Skipped) -> Iterator[Refusal]:
    """All refusals of an opened set; a run would stop at the first."""
    checks = [check_enough, check_distinct, *([check_classes] if asked.role == "evaluation" else [])]
    for check in checks:
        try:
            check(dataset)
        except ClipsmithError as error:
            yield Refusal.of(asked.source, error)
    total = len(dataset.samples)
    if skipped.samples > MAX_BAD_SHARE * total:
        too_many = BadSample(
            f"{skipped.samples} of {total} samples ({skipped.samples / total:.1%}) cannot be decoded; "
            f"the first is {skipped.first[0].sample}: {skipped.first[0].why}",
            where=dataset.source,
            expected=f"at most {MAX_BAD_SHARE:.1%} bad samples",
            fix="repair or remove them",
        )
        yield Refusal.of(asked.source, too_many)


def _shared(dataset: Source, asked: Question, watch: Watch, refusals: list[Refusal]) -> Overlap | None:
    """The overlap with the other source, which is opened in the other role."""
    if asked.against is None:
        return None
    other_role: Role = "calibration" if asked.role == "evaluation" else "evaluation"
    other = _opened(asked, asked.against, other_role, asked.against_limit, watch, refusals)
    if other is None:
        return None
    pair = (other, dataset) if asked.role == "evaluation" else (dataset, other)
    try:
        check_disjoint(*pair)
    except DataError as error:
        refusals.append(Refusal.of(asked.source, error))
    return overlap(dataset, other)


# --- the folder itself -------------------------------------------------------------------------------------


def _files_of(spec: str) -> Iterator[str]:
    """The paths of all files below the folder that a source names; none if it does not name a folder."""
    with suppress(OSError, ValueError):  # a text that cannot be a path
        if spec in ("", _BUILT_IN) or not Path(spec).is_dir():
            return
        for folder, folders, files in os.walk(spec):
            folders.sort()
            yield from (os.path.join(folder, name) for name in sorted(files))  # noqa: PTH118  (a Path each is slow)


def _by_suffix(names: Sequence[str]) -> dict[str, int] | None:
    """The number of files of each suffix, the most frequent first; None if there is no folder."""
    counts = Counter(PurePath(name).suffix.lower() or "no suffix" for name in names)
    return dict(counts.most_common()) if names else None


def _unlisted(asked: Question, dataset: Source, names: Sequence[str]) -> Unlisted | None:
    """Picture files in the folder that the source does not use; None for a limited draw, or a set on the hub."""
    if asked.limit is not None or not names or not dataset.files:
        return None
    real = cache(os.path.realpath)  # only for folders, of which there are few

    def place(path: str | Path) -> str:
        folder, name = os.path.split(path)
        return f"{real(folder)}{os.sep}{name}"

    known = {place(path) for path in dataset.files}
    pictures = (name for name in names if PurePath(name).suffix.lower() in _PICTURES)
    rest = [name for name in pictures if place(name) not in known and os.path.realpath(name) not in known]
    return Unlisted(len(rest), tuple(str(PurePath(name).relative_to(PurePath(asked.source))) for name in rest[:SHOWN]))
