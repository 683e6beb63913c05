"""Columns of a set of the `datasets` library, whatever their features: pictures, captions, labels."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Features, List, Sequence, Value

from tasks.data import open_dataset
from tests.tasks.data.support import classed, noise, refused, said

PICTURES = [noise(seed) for seed in range(3)]
CELLS = [{"bytes": data, "path": f"{number}.png"} for number, data in enumerate(PICTURES)]
WORDS = ["one", "two", "three"]
IMAGE, TEXT, NUMBER = datasets.Image(), Value("string"), Value("int64")
KINDS = ClassLabel(names=["cat", "dog"])
RECORD = {"bytes": Value("binary"), "path": Value("string")}


def saved(folder: Path, **columns: tuple[Any, list[Any]]) -> str:
    """Columns by name: their feature and their cells."""
    features = Features({name: kind for name, (kind, _) in columns.items()})
    cells = {name: values for name, (_, values) in columns.items()}
    datasets.Dataset.from_dict(cells, features=features).save_to_disk(str(folder / "set"))
    return str(folder / "set")


@pytest.mark.parametrize(
    ("name", "kind", "cells"),
    [
        ("image", IMAGE, CELLS),
        ("jpg", IMAGE, CELLS),
        ("whatever", IMAGE, CELLS),
        ("image", Value("binary"), PICTURES),
        ("image", Value("large_binary"), PICTURES),
        ("png", RECORD, CELLS),
        ("image", TEXT, [base64.b64encode(data).decode() for data in PICTURES]),
        ("image", TEXT, ["data:image/png;base64," + base64.b64encode(data).decode() for data in PICTURES]),
    ],
)
def test_pictures(tmp_path: Path, name: str, kind: Any, cells: list[Any]) -> None:
    dataset = open_dataset(saved(tmp_path, **{name: (kind, cells), "txt": (TEXT, WORDS)}), "evaluation")
    assert [sample.caption for sample in dataset.samples] == WORDS
    assert np.array_equal(np.asarray(dataset.image(1)), np.asarray(open_dataset_picture(tmp_path, 1)))


def open_dataset_picture(folder: Path, index: int) -> Any:
    """The same picture, decoded from a file."""
    (folder / "files").mkdir()
    (folder / "files" / "a.png").write_bytes(PICTURES[index])
    (folder / "files" / "captions.csv").write_text("file,caption\na.png,x\n")
    return open_dataset(str(folder / "files"), "evaluation").image(0)


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        (List(TEXT), [["one", "one", "x"], ["two"], ["three", "three"]]),
        (List({"raw": TEXT, "sentid": NUMBER}), [[{"raw": word, "sentid": 1}] for word in WORDS]),
        (Sequence({"raw": TEXT, "sentid": NUMBER}), [{"raw": [word, word], "sentid": [1, 2]} for word in WORDS]),
        (Value("large_string"), WORDS),
    ],
)
def test_captions_of_which_one_that_comes_twice_is_one_pair(tmp_path: Path, kind: Any, cells: list[Any]) -> None:
    spec = saved(tmp_path, image=(IMAGE, CELLS), sentences=(kind, cells))
    assert [text for _, text in said(spec) if text != "x"] == WORDS


@pytest.mark.parametrize("missing", [None, "", "nan", "None", []])
def test_a_missing_caption(tmp_path: Path, missing: Any) -> None:
    listed = isinstance(missing, list)
    cells = [["one"], missing, ["three"]] if listed else ["one", missing, "three"]
    spec = saved(tmp_path, image=(IMAGE, CELLS), caption=(List(TEXT) if listed else TEXT, cells))
    refused(spec, "caption", "row 1", "fill it in or remove the row")


def test_labels_as_texts(tmp_path: Path) -> None:
    spec = saved(tmp_path, image=(IMAGE, CELLS), label=(TEXT, ["dog", "cat ", "dog"]))
    assert classed(spec) == (("cat", "dog"), ["dog", "cat", "dog"])
    classes = open_dataset(spec, "evaluation").classes
    assert classes is not None and not classes.published, "they are the user's own"


@pytest.mark.parametrize("kind", [NUMBER, Value("float32"), Value("bool")])
def test_labels_as_numbers(tmp_path: Path, kind: Any) -> None:
    spec = saved(tmp_path, image=(IMAGE, CELLS), label=(kind, [1, 0, 1]))
    refused(spec, "the labels are numbers (0, 1)", "classnames.txt")
    (Path(spec) / "classnames.txt").write_text("cat\ndog\nowl\n")
    assert classed(spec) == (("cat", "dog", "owl"), ["dog", "cat", "dog"])


def test_a_missing_label(tmp_path: Path) -> None:
    spec = saved(tmp_path / "a", image=(IMAGE, CELLS), label=(Value("float32"), [1.0, float("nan"), 0.0]))
    refused(spec, "empty label", "row 1")
    refused(saved(tmp_path / "b", image=(IMAGE, CELLS), label=(TEXT, ["cat", None, "dog"])), "empty label", "row 1")


def test_published_classes(tmp_path: Path) -> None:
    """All of them, though one has no samples; and as numbers where they are digits."""
    kinds = ClassLabel(names=["owl", "dog", "cat"])
    assert classed(saved(tmp_path / "a", image=(IMAGE, CELLS), kind=(kinds, [1, 2, 1])))[0] == ("owl", "dog", "cat")
    digits = ClassLabel(names=[str(number) for number in range(10)])
    assert len(classed(saved(tmp_path / "b", image=(IMAGE, CELLS), kind=(digits, [1, 0, 1])))[0]) == 10


@pytest.mark.parametrize("names", [[str(number) for number in range(11)], ["n01440764", "n01443537"]])
def test_published_classes_that_are_codes(tmp_path: Path, names: list[str]) -> None:
    spec = saved(tmp_path, image=(IMAGE, CELLS), kind=(ClassLabel(names=names), [1, 0, 1]))
    refused(spec, "nothing says what the classes are called", "classnames.txt")
    (Path(spec) / "classnames.txt").write_text("\n".join(f"class {number}" for number in range(len(names))))
    assert classed(spec)[1] == ["class 1", "class 0", "class 1"]
    (Path(spec) / "classnames.txt").write_text("tench\n")
    refused(spec, f"1 names for {len(names)} classes")


def test_several_label_columns(tmp_path: Path) -> None:
    columns = {"img": (IMAGE, CELLS), "fine_label": (KINDS, [0, 1, 0]), "coarse_label": (KINDS, [1, 1, 0])}
    spec = saved(tmp_path, **columns)
    refused(spec, "several label columns: fine_label, coarse_label")
    refused(spec, "--columns label=fine_label or --columns label=coarse_label")
    refused(spec, "--columns image=img,label=fine_label or", columns="image=img")
    assert classed(spec, "label=fine_label")[1] == ["cat", "dog", "cat"]
    assert classed(spec, "image=img,label=coarse_label")[1] == ["dog", "dog", "cat"]


def test_several_caption_and_image_columns(tmp_path: Path) -> None:
    columns = {"left": (IMAGE, CELLS), "right": (IMAGE, CELLS[::-1]), "text": (TEXT, WORDS), "title": (TEXT, ["x"] * 3)}
    spec = saved(tmp_path, **columns)
    refused(spec, "several image columns: left, right", "--columns image=left or --columns image=right")
    refused(spec, "several caption columns: text, title", columns="image=left")
    dataset = open_dataset(spec, "evaluation", columns="image=right,caption=text")
    other = open_dataset(spec, "evaluation", columns="image=left,caption=text")
    assert dataset.samples[0].image_hash == other.samples[2].image_hash


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("image=nothing", "one of image, alt, number, listed"),
        ("caption=number", "the column number holds no captions"),
        ("image=number,caption=alt", "the column number holds no picture files"),
        ("image=listed,caption=alt", "the column listed holds lists of pictures"),
        ("label=image", "the column image holds no labels"),
        (None, "--columns caption=alt"),
    ],
)
def test_columns_of_the_wrong_kind(tmp_path: Path, columns: str | None, words: str) -> None:
    made = {"image": (IMAGE, CELLS), "alt": (TEXT, WORDS), "number": (NUMBER, [1, 2, 3])}
    spec = saved(tmp_path, **made, listed=(List(IMAGE), [[cell] for cell in CELLS]))
    refused(spec, words, columns=columns)
    assert said(spec, "caption=alt")[0] == ("0", "one")
