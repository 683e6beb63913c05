"""Whole data sets as hypothesis draws them, and as they are written to disk in every layout."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from PIL import Image

from tests.tasks.data.support import write_tar
from tests.tasks.evaluation.stand_in import Kind

MODES = ("RGB", "L", "P", "RGBA", "I;16")
_SIDE = 4
Layout = Literal["folder", "webdataset", "datasets"]

ALIKE = (
    ("zero", "Zero", " zero", "zero ", "ZERO"),
    ("ze ro", "ze  ro", "Ze ro"),
    ("\u00e5ngstr\u00f6m", "a\u030angstro\u0308m", "\u00c5ngstr\u00f6m"),  # one name in NFC, NFD and another case
    ("fish", "\ufb01sh"),  # a ligature
    ("stra\u00dfe", "STRASSE"),
)
"""Names that read alike, by hand: what differs in case, Unicode form or white space alone."""
SAME_TOKENS = ("zero!", "tit-mouse", "titmouse", "angstrom", "fish.")
"""Names that read like none of the others, but are the same words to the stand-in's tokenizer as another one."""
PLAIN = ("one", "two", "three", "four", "five", "six", "seven", "cat", "dog", "hen", "owl", "ox")
_SUBJECTS = ("cat", "dog", "red hen", "owl at night", "ox and plough", "river", "bridge", "tall tower", "boat", "sky")
CAPTIONS = (
    *(f"a photo of a {subject}" for subject in _SUBJECTS),
    *(f"the {subject} here" for subject in _SUBJECTS),
    *(
        "A cat",
        "a cat",
        "a  cat",
        "a cat.",
        "caf\u00e9",
        "cafe\u0301",
        "a cat and, \u201cquoted\u201d, a dog",
        'a "dog"',
    ),
)
TEMPLATES = ("{}", "a photo of a {}.", "the {} here", "a bad photo of the {}.", "art of the {}.")


@dataclass(frozen=True)
class Picture:
    """A small picture: equal ones are the same file to the byte; another `level` of compression is another file."""

    mode: str
    seed: int
    level: int

    def pixels(self) -> np.ndarray:
        """What is stored: channels, grey values, or places in the palette."""
        rng = np.random.default_rng([self.seed, MODES.index(self.mode)])
        depth = {"RGB": (3,), "RGBA": (4,)}.get(self.mode, ())
        top, kind = {"P": (4, np.uint8), "I;16": (65536, np.uint16)}.get(self.mode, (256, np.uint8))
        return rng.integers(0, top, (_SIDE, _SIDE, *depth)).astype(kind)

    def palette(self) -> np.ndarray:
        """Four colours, (4, 3)."""
        return np.random.default_rng([self.seed, 99]).integers(0, 256, (4, 3)).astype(np.uint8)

    def encoded(self) -> bytes:
        """The PNG file."""
        if self.mode == "P":
            image = Image.new("P", (_SIDE, _SIDE))
            image.putdata(self.pixels().ravel().tolist())
            image.putpalette(self.palette().ravel().tolist())
        else:
            image = Image.fromarray(self.pixels())
        assert image.mode == self.mode
        stream = io.BytesIO()
        image.save(stream, "PNG", compress_level=self.level)
        return stream.getvalue()

    def rgb(self) -> np.ndarray:
        """By hand: grey three times, colours of the palette, alpha dropped, 65,535 as 255, (h, w, 3) of uint8."""
        stored = self.pixels()
        if self.mode == "P":
            return self.palette()[stored]
        if self.mode == "I;16":
            stored = ((2 * stored.astype(np.int64) + 257) // 514).astype(np.uint8)
        return stored[:, :, :3] if stored.ndim == 3 else np.stack([stored] * 3, axis=2)


@dataclass(frozen=True)
class Row:
    """A row of a table, or a sample of a shard: the place of its file, its captions, and its class by place."""

    file: int
    captions: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class DrawnSet:
    """A data set before it is written, and how it is evaluated.

    `captioned`: rows have captions; `labelled`: they have classes, by which the set is then judged. `names` of a folder
    are its labels as written. `templates` is None where there are none of the set's own.
    """

    layout: Layout
    stem: str
    suffix: str
    labelled: bool
    captioned: bool
    pictures: tuple[Picture, ...]
    rows: tuple[Row, ...]
    names: tuple[str, ...]
    templates: tuple[str, ...] | None
    kind: Kind
    optimised: tuple[Literal["image", "text"], ...]
    batch: int

    def file(self, place: int) -> str:
        """The name of a file in a folder."""
        return f"{'deep/' if place % 3 == 0 else ''}{place}.png"

    def write(self, folder: Path) -> str:
        """Write the set into an empty folder; the source to open."""
        if self.layout == "folder":
            _write_folder(self, folder)
        elif self.layout == "webdataset":
            _write_webdataset(self, folder)
        else:
            _write_datasets(self, folder / "saved")
            return f"datasets:{folder / 'saved'}"
        return str(folder)


def _write_folder(drawn: DrawnSet, folder: Path) -> None:
    for place, picture in enumerate(drawn.pictures):
        path = folder / drawn.file(place)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture.encoded())
    name = "file_name" if drawn.stem == "metadata" else "file"
    records = []
    for row in drawn.rows:
        label = {"label": drawn.names[row.label]} if drawn.labelled else {}
        texts: list[dict[str, str]] = [{"caption": text} for text in row.captions] if drawn.captioned else [{}]
        records += [{name: drawn.file(row.file), **text, **label} for text in texts]
    _write_table(folder / f"{drawn.stem}{drawn.suffix}", records)
    if drawn.labelled and drawn.templates is not None:
        (folder / "templates.txt").write_text("\n".join(drawn.templates), encoding="utf-8")


def _write_table(path: Path, records: Sequence[dict[str, str]]) -> None:
    if path.suffix == ".parquet":
        pd.DataFrame(records).to_parquet(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, list(records[0]))
            table.writeheader()
            table.writerows(records)


def _write_webdataset(drawn: DrawnSet, folder: Path) -> None:
    members = []
    for number, row in enumerate(drawn.rows):
        text = str(row.label) if drawn.labelled else "\n".join(row.captions)
        members.append((f"s{number:07d}.png", drawn.pictures[row.file].encoded()))
        members.append((f"s{number:07d}.{'cls' if drawn.labelled else 'txt'}", text.encode()))
    middle = len(drawn.rows) // 2 * 2
    write_tar(folder / "test" / "0.tar", members[:middle])
    write_tar(folder / "test" / "1.tar", members[middle:])
    (folder / "dataset_type.txt").write_text("classification" if drawn.labelled else "retrieval")
    if drawn.labelled:
        (folder / "classnames.txt").write_text("\n".join(drawn.names) + "\n", encoding="utf-8")
    if drawn.labelled and drawn.templates is not None:
        text = "\n".join(template.replace("{}", "{c}") for template in drawn.templates)
        (folder / "zeroshot_classification_templates.txt").write_text(text)


def _write_datasets(drawn: DrawnSet, folder: Path) -> None:
    import datasets

    pictures = [{"bytes": drawn.pictures[row.file].encoded(), "path": None} for row in drawn.rows]
    columns: dict[str, list[Any]] = {"image": pictures}
    features: dict[str, Any] = {"image": datasets.Image()}
    if drawn.captioned:
        columns["captions"] = [list(row.captions) for row in drawn.rows]
        features["captions"] = datasets.List(datasets.Value("string"))
    if drawn.labelled:
        columns["label"] = [row.label for row in drawn.rows]
        features["label"] = datasets.ClassLabel(names=list(drawn.names))
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).save_to_disk(folder)


# --- drawing -----------------------------------------------------------------------------------------------

LAYOUTS: tuple[Layout, ...] = ("folder", "webdataset", "datasets")


@st.composite
def drawn_sets(draw: st.DrawFn, layout: Layout, labelled: bool, kind: Kind) -> DrawnSet:
    """Sets of one layout. Most are sound; some have to be refused.

    Names and rows come from a seed: hypothesis draws most of its numbers near the simplest, which is a set of one
    picture and one caption.
    """
    rng = np.random.default_rng([draw(st.integers(0, 2**32 - 1)), LAYOUTS.index(layout), labelled, kind == "exact"])
    captioned = not labelled or (layout != "webdataset" and draw(st.booleans()))
    names = _names(rng, layout) if labelled else ("none",)
    files = draw(st.integers(8, 14))
    count = int(rng.integers(2, 7)) if rng.random() < 0.1 else files + draw(st.integers(0, 6))
    own = st.none() | st.lists(st.sampled_from(TEMPLATES), min_size=1, max_size=4, unique=True).map(tuple)
    return DrawnSet(
        layout,
        draw(st.sampled_from(("labels", "metadata") if labelled else ("captions", "metadata"))),
        draw(st.sampled_from((".csv", ".jsonl", ".parquet"))),
        labelled,
        captioned,
        tuple(Picture(str(rng.choice(MODES)), int(rng.integers(12)), int(rng.choice((1, 1, 9)))) for _ in range(files)),
        tuple(_rows(rng, count, files, len(names), strays=layout != "folder" or rng.random() < 0.15)),
        names,
        None if layout == "datasets" else draw(own),
        kind,
        draw(st.sampled_from((("image", "text"), ("image",), ("text",)))),
        draw(st.integers(1, 9)),
    )


def _rows(rng: np.random.Generator, count: int, files: int, classes: int, *, strays: bool) -> Iterator[Row]:
    """A file has one class, as it must in a folder; with `strays`, some rows give it another one."""
    labels, places = rng.integers(0, classes, files), [*range(files), *rng.integers(0, files, count).tolist()]
    for place in rng.permutation(places[:count]).tolist():
        captions = tuple(str(caption) for caption in rng.choice(CAPTIONS, rng.integers(1, 4)))
        stray = int(strays and rng.random() < 0.3)
        yield Row(place, captions, int(labels[place] + stray) % classes)


def _names(rng: np.random.Generator, layout: Layout) -> tuple[str, ...]:
    """Published lists may have names that are alike, or one name twice; of a user's own labels that is refused."""
    names = rng.permutation(PLAIN)[: rng.integers(2, 10)].tolist()
    if layout != "folder":
        odd = [*(name for group in ALIKE for name in group), *SAME_TOKENS, *(PLAIN if layout == "webdataset" else ())]
        names += rng.choice(odd, rng.integers(1, 5)).tolist()
    elif rng.random() < 0.5:
        group = (*ALIKE, ("fish", "fish."), ("tit-mouse", "titmouse"))[rng.integers(len(ALIKE) + 2)]
        names = [*names[:3], *rng.permutation(group)[:2].tolist()]
    if layout == "folder":  # one class, written in two ways
        names += [f"{names[0]} ", f"\u00a0{names[1]}"]
    names = names if layout == "webdataset" else list(dict.fromkeys(names))
    return tuple(names[place] for place in rng.permutation(len(names)))
