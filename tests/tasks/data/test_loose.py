"""Folders without a table: a folder for each class, or a text beside each picture."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tests.tasks.data.support import classed, pictures, refused, said

# --- a folder for each class -------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    pictures(tmp_path, "dog/b.png", "cat/sub/c.PNG", "cat/a.jpg")
    assert classed(tmp_path) == (("cat", "dog"), ["cat", "cat", "dog"])
    assert said(tmp_path) == [
        ("cat/a.jpg", "a photo of a cat."),
        ("cat/sub/c.PNG", "a photo of a cat."),
        ("dog/b.png", "a photo of a dog."),
    ]
    (tmp_path / "templates.txt").write_text("the {}\n")
    assert said(tmp_path)[0][1] == "the cat"


def test_hidden_files_and_folders_are_no_classes(tmp_path: Path) -> None:
    pictures(tmp_path, "dog/b.png", "cat/a.png", ".cache/x.png", "__MACOSX/._a.png", "cat/._a.png", "cat/.t/x.png")
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "cat" / "Thumbs.db").write_text("x")
    assert classed(tmp_path) == (("cat", "dog"), ["cat", "dog"])


def test_a_class_without_pictures_is_one_and_a_folder_of_something_else_is_not(tmp_path: Path) -> None:
    pictures(tmp_path, "dog/b.png", "cat/a.png")
    (tmp_path / "owl").mkdir()
    assert classed(tmp_path) == (("cat", "dog", "owl"), ["cat", "dog"])
    (tmp_path / "owl" / "readme.txt").write_text("x")
    refused(tmp_path, "'owl' would be a class", "readme.txt")


def test_both_forms_of_a_name_are_one_class(tmp_path: Path) -> None:
    pictures(tmp_path, "caf\u00e9/a.png", unicodedata.normalize("NFD", "caf\u00e9") + "/b.png", "bar/c.png")
    assert classed(tmp_path) == (("bar", "caf\u00e9"), ["bar", "caf\u00e9", "caf\u00e9"])


def test_classes_that_read_alike(tmp_path: Path) -> None:
    refused(pictures(tmp_path, "Cat/a.png", "cat/b.png"), "'Cat' and 'cat'", "differ only in case")


@pytest.mark.parametrize(
    "names",
    [
        ("train/cat/a.png", "train/dog/b.png", "test/cat/c.png"),
        ("train/a.png", "test/b.png"),
        ("Validation/cat/a.png", "other/b.png"),
        ("train/metadata.csv", "other/b.png"),
    ],
)
def test_splits_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    splits = sorted({name.partition("/")[0] for name in names} - {"other"})
    refused(pictures(tmp_path, *names), "holds splits, not classes", ", ".join(splits), f"{tmp_path / splits[0]}")


def test_a_train_may_be_a_class(tmp_path: Path) -> None:
    assert classed(pictures(tmp_path, "train/a.png", "bus/b.png"))[0] == ("bus", "train")


def test_one_folder_is_no_class(tmp_path: Path) -> None:
    refused(pictures(tmp_path, "img/a.png", "img/b.png"), "all pictures are in one folder, 'img'", "captions.csv")
    (tmp_path / "results.csv").write_text("x")
    refused(tmp_path, "if results.csv is the table, call it captions.csv")


def test_pictures_beside_the_class_folders(tmp_path: Path) -> None:
    refused(pictures(tmp_path, "cat/a.png", "dog/b.png", "c.png"), "1 of 3 pictures are in no class folder", "c.png")


def test_what_else_a_folder_may_be(tmp_path: Path) -> None:
    refused(tmp_path, "no table of captions or labels", "captions.csv")
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "0.tar").write_bytes(b"")
    refused(tmp_path, f"wds:{tmp_path / 'data' / 'deep'}")
    (tmp_path / "data" / "test.parquet").write_bytes(b"")
    refused(tmp_path, f"datasets:{tmp_path}")


def test_links_out_of_the_folder_and_round_in_it(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", "cat/a.png", "dog/b.png")
    (folder / "cat" / "round").symlink_to("..")
    assert len(said(folder)) == 2
    pictures(tmp_path / "other", "c.png")
    (folder / "owl").symlink_to(tmp_path / "other")
    refused(folder, "leaves the folder")


# --- a text beside each picture ----------------------------------------------------------------------------


def test_texts_beside_pictures(tmp_path: Path) -> None:
    pictures(tmp_path, "00000/a.png", "00001/b.jpg")
    (tmp_path / "00000" / "a.txt").write_text("one\n\ntwo\none\n")
    (tmp_path / "00001" / "b.txt").write_text("three")
    assert said(tmp_path) == [("00000/a.png", "one"), ("00000/a.png#2", "two"), ("00001/b.jpg", "three")]
    (tmp_path / "00001" / "b.txt").write_text("0 0.5 0.5 0.1 1e-3\n")
    refused(tmp_path, "numbers, as for boxes", "b.txt")
    (tmp_path / "00001" / "b.txt").write_text(" ")
    refused(tmp_path, "empty caption", "b.txt")
    (tmp_path / "00001" / "b.txt").unlink()
    refused(tmp_path, "1 of 2 pictures have no text", "b.txt with one caption a line")
