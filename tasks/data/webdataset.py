"""Shards of pictures as CLIP_benchmark, img2dataset and LAION write them, as a data source for zero-shot classification
or retrieval."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from artifacts.errors import DataError
from tasks.data.base import Classes, Encoded, Sample, numbered
from tasks.data.images import Stored
from tasks.data.name_list import nameless_notes
from tasks.data.published_classes import TYPE, from_one_note, is_classification, no_names, out_of_range, read_classes
from tasks.data.shard_names import Kind, is_array
from tasks.data.shard_texts import places_of, read_captions, read_class
from tasks.data.shards import Part, ReadShards, ShardSample, read_shard
from tasks.data.subset import whole_subset
from tasks.data.templates import fill
from tasks.data.unpacked import Unpacked
from tasks.data.wds_source import WdsSource, find_webdataset

_MAX_WITHOUT_CAPTIONS = 0.01
"""The largest share of samples without a picture or captions, which are left out: sets from web pages have some."""
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class _Entry:
    """A sample that is not hashed yet: with its class, or with the member that holds its captions and their number."""

    image: Part
    label: int | None
    text: Part
    count: int


class WebDataset(Stored):
    """Shards of pictures with a class (`.cls`) or captions, one a line (`.txt`).

    A picture with several captions gives one sample for each. `limit` counts samples and keeps a seeded draw of whole
    pictures, with all of their captions.

    `notes` say what is unusual but not wrong about the set, one sentence each.
    """

    def __init__(self, spec: str, limit: int | None = None) -> None:
        """Read every header, class and caption, and hash the pictures that are kept; nothing is decoded.

        Raises:
            ConfigError: the spec is malformed, or must name a split.
            DataNotFound: no such folder, hub id or split, or no class names.
            DataError: a damaged shard; a sample without a class, or with the key of another; more than 1 % of samples
                without a picture or captions; or a class out of range. The message names the sample or the line.
        """
        found = find_webdataset(spec)
        self.source: str = found.name
        self.files: Sequence[Path] = found.files
        self.classes: Classes | None = read_classes(found.root) if is_classification(found.root) else None
        self._unpacked = Unpacked()  # must live as long as pictures are read
        index = _Index(found, self.classes, self._unpacked)
        every = list(index.entries())
        self.notes: Sequence[str] = tuple(index.notes())
        kept = whole_subset([entry.count for entry in every], limit)
        self._parts: list[Part] = []
        self.samples: Sequence[Sample] = tuple(self._samples([every[place] for place in kept]))

    def stored(self, index: int) -> bytes:
        """The bytes of sample `index`'s picture, read from its shard.

        Raises:
            DataError: the shard changed or went away after the set was opened.
        """
        return self._parts[index].read()

    def encoded(self, index: int) -> Encoded:
        """The bytes of sample `index`'s picture. Raises: DataError: the shard went away after the set was opened."""
        return Encoded(self.stored(index), self.samples[index].image_hash, self._parts[index].where)

    def _samples(self, entries: Sequence[_Entry]) -> Iterator[Sample]:
        """The samples, in the order of the shards, so that each shard is read from start to end."""
        classes = self.classes
        prompts = [] if classes is None else [fill(classes.templates[0], name) for name in classes.names]
        names = numbered([entry.image.key for entry in entries for _ in range(entry.count)])
        for entry in entries:
            digest = hashlib.sha256(entry.image.read()).hexdigest()
            text = entry.text
            own = read_captions(text.read(), text.where) if entry.label is None else (prompts[entry.label],)
            for caption in own:
                self._parts.append(entry.image)
                yield Sample(next(names), digest, caption, entry.label, entry.image.key)


@dataclass
class _Index:
    """Goes through the shards of a set once, and counts what the notes report.

    It keeps the positions of pictures and captions, not their contents: some hundred bytes per picture.
    """

    source: WdsSource
    classes: Classes | None
    unpacked: Unpacked
    labels: Counter[int] = field(default_factory=Counter)
    total: int = 0
    lacking: int = 0
    _numbered: bool = False
    _first_lacking: DataError | None = None
    _first_outside: tuple[int, str] | None = None
    _passed: ReadShards = field(default_factory=ReadShards)

    @property
    def wanted(self) -> Kind:
        """The kind of text that a sample must have: a class or captions."""
        return "captions" if self.classes is None else "class"

    def entries(self) -> Iterator[_Entry]:
        """Every sample that can be used, in the order of the shards.

        Raises:
            DataError: as for `WebDataset`.
        """
        places = {} if self.classes is None else places_of(self.classes.names)
        for sample in self._samples():
            self.total += 1
            image, text = sample.part("picture"), sample.part(self.wanted)
            if image is None or text is None:
                self._lack(sample, "picture" if image is None else self.wanted)
            elif self.classes is None:
                captions = read_captions(sample.text(text), text.where)
                if captions:
                    yield _Entry(image, None, text, len(captions))
                else:
                    self._lack(sample, self.wanted)
            else:
                self._numbered |= sample.text(text).lstrip()[:1].isdigit()
                label = read_class(sample.text(text), text.where, places)
                self._count(label, text.where, len(self.classes.names))
                yield _Entry(image, label, text, 1)
        self._check()

    def notes(self) -> Iterator[str]:
        """The notes about the set; call it after `entries` has been read to its end."""
        if self.lacking:
            yield f"{self.lacking:,} of {self.total:,} samples have no picture or no captions, and are left out"
        if self._passed.left_by_macos:
            yield (
                "members that macOS leaves in archives (._*, __MACOSX, .DS_Store) are passed over: "
                f"{self._passed.left_by_macos:,}"
            )
        yield from nameless_notes(self.classes, self.labels)
        if self.classes is not None and self._numbered:
            yield from from_one_note(self.classes.names, self.labels)

    def _samples(self) -> Iterator[ShardSample]:
        seen: dict[str, Path] = {}
        for shard in self.source.shards:
            for sample in read_shard(shard, self.wanted, self._passed, self.unpacked):
                if sample.key in seen:
                    raise DataError(
                        f"the id {sample.key!r} comes twice",
                        where=f"{seen[sample.key]} and {shard}",
                        expected="a key of its own for each sample of the set",
                        fix="write the shards again",
                    )
                seen[sample.key] = shard
                yield sample

    def _count(self, label: int, where: str, classes: int) -> None:
        self.labels[label] += 1
        if self._first_outside is None and not 0 <= label < classes:
            self._first_outside = label, where

    def _lack(self, sample: ShardSample, kind: Kind) -> None:
        self.lacking += 1
        if self._first_lacking is None:
            self._first_lacking = _lacking(sample, kind, self.source)

    def _check(self) -> None:
        if self._first_lacking is not None and (
            self.classes is not None or self.lacking > self.total * _MAX_WITHOUT_CAPTIONS
        ):
            raise self._first_lacking
        if self._first_outside is not None:
            assert self.classes is not None
            raise out_of_range(*self._first_outside, len(self.classes.names), self.labels)
        if not self.total and self._passed.unknown:
            endings = _shown([f".{name}" for name in self._passed.unknown])
            raise DataError(
                f"no member of the shards is a picture: they end in {endings}",
                where=self.source.name,
                expected="members as s0.jpg and s0.txt, or s0.png and s0.cls",
                fix="write the shards again with such names",
            )


def _shown(endings: Sequence[str]) -> str:
    every = list(dict.fromkeys(endings))
    return ", ".join(every[:_SHOWN]) + (", ..." if len(every) > _SHOWN else "")


def _lacking(sample: ShardSample, kind: Kind, source: WdsSource) -> DataError:
    """The error about a sample without a picture, captions or a class."""
    array = next((ending for ending in sample.others if is_array(ending)), None)
    expected = {"picture": ".jpg, .png or .webp", "captions": ".txt", "class": ".cls"}[kind]
    fix = "add it or remove the sample"
    if kind == "picture":
        fix += "; pictures of another kind have to be converted first"
    elif kind == "captions" and "json" in sample.others:
        fix = "write the caption, if the .json has one, into a member .txt"
    what = f"the sample has no {kind}" if sample.part(kind) is None else "the sample's captions are blank"
    if kind == "captions" and sample.part("class") is not None:
        return no_names(source.root)
    if kind != "picture" and array is not None:
        what = f"the sample's label is an array (.{array}), as multi-label sets have it"
        fix = "use a data set with one class to a picture, or with captions"
    elif kind == "class" and sample.part("captions") is not None:
        fix = f"write the class into such a member; if the texts are captions, write retrieval into {TYPE}"
    return DataError(
        what,
        where=f"{next(iter(sample.parts.values())).shard}, sample {sample.key!r}",
        expected=f"a member {expected}; it has {_shown(sample.endings)}",
        fix=fix,
    )
