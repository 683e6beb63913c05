"""The facts about a source in words: the lines that both the terminal and the contact sheet show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from artifacts.inert import visible
from artifacts.number_words import counted
from tasks.inspection.holdings import (
    SHOWN,
    ClassFacts,
    Copy,
    Holdings,
    Overlap,
    PictureFacts,
    Refusal,
    Repeated,
    Skipped,
    Spread,
    Unlisted,
)

Line = tuple[str, str]
"""A line's subject and text; the subject is empty if the line continues the one above."""
_LONGEST = 48  # characters of a name
_MOST_KINDS = 6  # modes, formats, suffixes


def plain(text: str, longest: int = _LONGEST) -> str:
    """A name from untrusted data on one line, shortened, with control and direction characters made harmless."""
    shown = visible(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def headline(found: Holdings) -> str:
    """`500 samples of 500 pictures, as the evaluation set`."""
    role = f"as the {found.role} set"
    if found.samples is None or found.pictures is None:
        return f"cannot be opened {role}"
    drawn = "" if found.limit is None or found.samples == 0 else f", a draw of at most {found.limit:,}"
    pictures = f"{found.pictures:,} {'picture' if found.pictures == 1 else 'pictures'}"
    return f"{_samples(found.samples)} of {pictures}, {role}{drawn}"


def lines(found: Holdings) -> Iterator[Line]:
    """Every known fact; unusual facts are described in more detail than usual ones."""
    if found.classes is not None:
        yield from _classes(found.classes)
    elif found.captions is not None:
        yield "captions", _captions(found.captions)
    if found.stored is not None:
        yield from _pictures(found.stored)
    if found.repeated is not None and found.two_labels is not None:
        yield from _repeated(found.repeated, found.two_labels)
    if found.skipped is not None and found.samples:
        yield from _skipped(found.skipped)
    if found.unlisted is not None and found.unlisted.files:
        yield from _unlisted(found.unlisted)
    yield from (("note", _flat(note)) for note in found.notes)
    if found.samples is None and found.files:
        yield "files", _kinds(found.files)
    if found.overlap is not None:
        yield from _overlap(found.overlap)


def refusal(told: Refusal, found: Holdings) -> list[Line]:
    """Why a run refuses, and what to do; the source itself is not named again."""
    whose = "" if told.source == found.source else f"{plain(told.source)}: "
    answer = [("refused", f"{whose}{_flat(told.what)} ({told.error})")]
    if told.where not in (None, found.source, found.place):
        answer.append(("", f"where: {_flat(str(told.where))}"))
    if told.expected is not None:
        answer.append(("", f"expected: {_flat(told.expected)}"))
    if told.fix is not None:
        answer.append(("", f"next: {_flat(told.fix)}"))
    return answer


# --- the lines ---------------------------------------------------------------------------------------------


def _classes(found: ClassFacts) -> Iterator[Line]:
    kind = "a published list" if found.published else "your labels"
    templates = counted(found.templates, "prompt template")
    yield "classes", f"{len(found.counts):,} of {kind}, {templates}"
    full = sorted((each for each in found.counts if each.samples), key=lambda each: each.samples)
    if full and full[0].samples == full[-1].samples:
        yield "", f"{_samples(full[0].samples)} in each{' that has any' if len(full) < len(found.counts) else ''}"
    elif full:
        middle = median(each.samples for each in full)
        yield (
            "",
            f"samples in each: {full[0].samples:,} ({plain(full[0].name)}) to {full[-1].samples:,} "
            f"({plain(full[-1].name)}), median {middle:,.0f}",
        )
    empty = [plain(each.name) for each in found.counts if not each.samples]
    if empty:
        yield "", f"{len(empty):,} without samples, which stay prompts: {_some(empty, len(empty))}"
    for group in found.alike[:SHOWN]:
        yield "", f"read alike, and hardly two classes: {', '.join(repr(plain(name)) for name in group[:SHOWN])}"
    if len(found.alike) > SHOWN:
        yield "", f"and {len(found.alike) - SHOWN:,} more groups that read alike"


def _pictures(found: PictureFacts) -> Iterator[Line]:
    if found.width.min == found.width.max and found.height.min == found.height.max:
        yield "size", f"{found.width.min} x {found.height.min} pixels, all of them"
    else:
        yield "width", f"{_three(found.width)} pixels (smallest, median, largest)"
        yield "height", f"{_three(found.height)} pixels"
    yield "modes", _kinds(found.modes)
    made = found.formats.keys() == {"none"}
    yield "formats", "no files: the source makes its pictures" if made else _kinds(found.formats)


def _repeated(found: Repeated, two_labels: Repeated) -> Iterator[Line]:
    if not found.groups:
        yield "copies", "none: no two pictures have the same bytes"
        return
    yield "copies", f"{counted(found.groups, 'picture')} more than once, {found.pictures:,} in all"
    # The groups with two labels are named below and are among these.
    yield from (("", _group(group)) for group in found.first if group not in two_labels.first)
    if two_labels.groups:
        yield "", f"{counted(two_labels.groups, 'picture')} under two labels, of which one is always wrong:"
        yield from (("", _group(group, labels=True)) for group in two_labels.first)


def _group(group: Sequence[Copy], labels: bool = False) -> str:
    names = (plain(each.sample) + (f" ({plain(each.label or '')})" if labels else "") for each in group)
    return "  " + " = ".join(names)


def _skipped(found: Skipped) -> Iterator[Line]:
    if not found.samples:
        yield "left out", "none: every header can be read"
        return
    yield "left out", f"{_samples(found.samples)} that cannot be decoded"
    yield from (("", f"  {plain(each.sample)}: {plain(each.why, 80)}") for each in found.first)


def _unlisted(found: Unlisted) -> Iterator[Line]:
    what = counted(found.files, "picture file")
    yield "not read", f"{what} in no sample: {_some([plain(name) for name in found.first], found.files)}"


def _overlap(found: Overlap) -> Iterator[Line]:
    place = plain(found.source, 80)
    if not found.samples:
        yield "overlap", f"no picture is also in {place} ({found.others:,} samples)"
        return
    yield "overlap", f"{_samples(found.samples)} also in {place} ({found.others:,} samples)"
    yield from (("", f"  {plain(here)} = {plain(there)} there") for here, there in found.first)


# --- parts of them -----------------------------------------------------------------------------------------


def _captions(found: Spread) -> str:
    if found.min == found.max:
        return f"{found.min:,} to each picture"
    return f"{found.min:,} to {found.max:,} to a picture, median {found.median:,.0f}"


def _three(found: Spread) -> str:
    return f"{found.min:,}, {found.median:,.0f}, {found.max:,}"


def _samples(count: int) -> str:
    return f"{count:,} {'sample' if count == 1 else 'samples'}"


def _kinds(counts: Mapping[str, int]) -> str:
    told = [f"{plain(name, 16)} {count:,}" for name, count in list(counts.items())[:_MOST_KINDS]]
    return ", ".join(told) + (f" and {len(counts) - _MOST_KINDS} more" if len(counts) > _MOST_KINDS else "")


def _some(names: Sequence[str], total: int) -> str:
    rest = total - min(len(names), SHOWN)
    return ", ".join(names[:SHOWN]) + (f" and {rest:,} more" if rest else "")


def _flat(text: str) -> str:
    return plain(" ".join(text.split()), 400)
