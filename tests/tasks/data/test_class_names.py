"""Labels that are numbers or codes get names from a list, or are refused; with a list, its classes are the classes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tasks.data import open_dataset
from tests.tasks.data.support import classed, noise, pictures, refused

NAMES = ("a.png", "b.png", "c.png")


def labelled(folder: Path, labels: list[object], form: str) -> Path:
    """A table of labels, as a data frame writes it."""
    frame = pd.DataFrame({"file": NAMES[: len(labels)], "label": labels})
    if form == "csv":
        frame.to_csv(folder / "labels.csv", index=False)
    elif form == "parquet":
        frame.to_parquet(folder / "labels.parquet")
    else:
        rows = frame.to_dict("records")
        (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pictures(folder, *NAMES)


WHOLE, FRACTIONS = [2, 0, 2], [2.0, 0.0, 2.0]  # in CSV a fraction is a text


@pytest.mark.parametrize(
    ("form", "labels"),
    [("csv", WHOLE), ("parquet", WHOLE), ("parquet", FRACTIONS), ("jsonl", WHOLE), ("jsonl", FRACTIONS)],
)
def test_numbers_need_names(tmp_path: Path, form: str, labels: list[object]) -> None:
    labelled(tmp_path, labels, form)
    refused(tmp_path, "the labels are numbers (0, 2)", "classnames.txt", "--columns label=COLUMN")
    (tmp_path / "classnames.txt").write_text("cat\ndog\nowl\ncat\n")
    assert classed(tmp_path) == (("cat", "dog", "owl", "cat"), ["owl", "cat", "owl"])
    classes = open_dataset(str(tmp_path), "evaluation").classes
    assert classes is not None and classes.published


@pytest.mark.parametrize(("labels", "wrong"), [([0, 2], "'2'"), ([0, -1], "'-1'"), (["cat", "fox"], "'fox'")])
def test_labels_that_the_list_has_not(tmp_path: Path, labels: list[object], wrong: str) -> None:
    labelled(tmp_path, labels, "csv")
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    refused(tmp_path, f"the label {wrong} is none of the 2 classes", "0 to 1")


def test_names_that_the_list_orders(tmp_path: Path) -> None:
    labelled(tmp_path, ["dog", "cat", "dog"], "csv")
    (tmp_path / "classnames.txt").write_text("owl\ndog\ncat\n")
    assert classed(tmp_path) == (("owl", "dog", "cat"), ["dog", "cat", "dog"])


def test_categories_of_a_data_frame(tmp_path: Path) -> None:
    pictures(tmp_path, *NAMES)
    frame = pd.DataFrame({"file": NAMES, "label": pd.Categorical(["dog", "cat", "dog"])})
    frame.to_parquet(tmp_path / "labels.parquet")
    assert classed(tmp_path) == (("cat", "dog"), ["dog", "cat", "dog"])


@pytest.mark.parametrize(
    ("folders", "words"),
    [(("0", "1", "10"), "numbers (0, 1, 10)"), (("n01440764", "n01443537"), "WordNet's ids")],
)
def test_folders_that_are_codes(tmp_path: Path, folders: tuple[str, ...], words: str) -> None:
    pictures(tmp_path, *(f"{name}/a.png" for name in folders))
    refused(tmp_path, words, "one class a line, in the folders' order")


def test_codes_and_numbers_of_folders_get_names(tmp_path: Path) -> None:
    pictures(tmp_path / "codes", "n01443537/a.png", "n01440764/b.png")
    (tmp_path / "codes" / "classnames.txt").write_text("tench\ngoldfish\n")
    assert classed(tmp_path / "codes") == (("tench", "goldfish"), ["tench", "goldfish"])
    (tmp_path / "codes" / "classnames.txt").write_text("tench\ngoldfish\nshark\n")
    refused(tmp_path / "codes", "'n01440764' is none of the 3 classes")
    names = [f"class {number}" for number in range(11)]
    pictures(tmp_path / "numbers", *(f"{number}/a.png" for number in range(11)))
    (tmp_path / "numbers" / "classnames.txt").write_text("\n".join(names))
    assert classed(tmp_path / "numbers") == (tuple(names), [names[n] for n in (0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9)])


def test_a_class_without_a_name_keeps_its_number_and_is_said(tmp_path: Path) -> None:
    labelled(tmp_path, [0, 1, 2], "csv")
    (tmp_path / "classnames.txt").write_text("cat\n\nowl\n")
    assert classed(tmp_path) == (("cat", "", "owl"), ["cat", "", "owl"])
    (note,) = open_dataset(str(tmp_path), "evaluation").notes
    assert note.startswith("1 of 3 classes have no name in classnames.txt (1)") and note.endswith(
        "samples of theirs: 1"
    )


def test_a_saved_set_says_so_too(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Image, Value

    features = Features({"image": Image(), "label": ClassLabel(names=["0", "1"]), "n": Value("int64")})
    stored = [{"bytes": noise(number), "path": None} for number in range(3)]
    Dataset.from_dict({"image": stored, "label": [0, 1, 1], "n": [0, 1, 2]}, features=features).save_to_disk(
        str(tmp_path / "set")
    )
    assert open_dataset(f"datasets:{tmp_path / 'set'}", "evaluation").notes == ()
    (tmp_path / "set" / "classnames.txt").write_text("cat\n\n ")
    refused(tmp_path / "set", "1 names for 2 classes", "classnames.txt")
    (tmp_path / "set" / "classnames.txt").write_text("\ncat\n")
    (note,) = open_dataset(f"datasets:{tmp_path / 'set'}", "evaluation").notes
    assert note.startswith("1 of 2 classes have no name in classnames.txt (0)")
