"""Columns are chosen by name, or found by their usual names; what could be meant twice is refused by both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifacts.errors import ConfigError
from tasks.data import open_dataset
from tasks.data.columns import BY_NAME, Chosen, parse_columns
from tests.tasks.data.support import classed, noise, pictures, refused, said, write_tar
from tests.wording import refusal


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (None, BY_NAME),
        ("", BY_NAME),
        ("image=jpg", Chosen(image="jpg")),
        (" image = jpg , label=fine label,caption=a=b", Chosen(image="jpg", label="fine label", caption="a=b")),
    ],
)
def test_what_is_chosen(text: str | None, chosen: Chosen) -> None:
    assert parse_columns(text) == chosen


@pytest.mark.parametrize("text", ["jpg", "picture=jpg", "image=", "image=a,image=b", "image=a,", "=a"])
def test_what_is_no_choice_is_refused(text: str) -> None:
    with refusal(ConfigError):
        parse_columns(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table with two columns of each kind."""
    pictures(tmp_path, "a.png", "b.png", "c.png")
    rows = [("a.png", "b.png", "one", "eins", "cat"), ("b.png", "c.png", "two", "zwei", "dog")]
    names = ("filename", "img", "title", "Text ", "class")
    lines = [dict(zip(names, row, strict=True)) for row in rows]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_several_are_named_with_what_to_type(folder: Path) -> None:
    refused(folder, "several image columns: filename, img", "--columns image=filename or --columns image=img")
    more = "--columns 'image=img,caption=Text ' or --columns image=img,caption=title"
    refused(folder, "several caption columns: Text , title", more, columns="image=img")


def test_chosen_columns(folder: Path) -> None:
    assert said(folder, "image=img,caption=title") == [("b.png", "one"), ("c.png", "two")]
    assert said(folder, "image=FILENAME,caption=text") == [("a.png", "eins"), ("b.png", "zwei")]
    assert classed(folder, "image=img,caption=text,label=class") == (("cat", "dog"), ["cat", "dog"])


def test_a_chosen_column_that_is_not_there(folder: Path) -> None:
    refused(folder, "no column 'x'", "one of filename, img, title, Text , class", columns="image=x")


def test_a_label_beside_captions_is_one_called_label(folder: Path) -> None:
    """A class among other things that are told about a picture is not what the set is about."""
    refused(folder, "--columns", columns="caption=title")
    assert said(folder, "image=img,caption=title")[0] == ("b.png", "one")
    assert open_dataset(str(folder), "evaluation", columns="image=img,caption=title").classes is None


def test_sources_without_columns(tmp_path: Path) -> None:
    pictures(tmp_path / "classes", "cat/a.png", "dog/b.png")
    refused(tmp_path / "classes", "no columns to choose from", columns="label=x")
    write_tar(tmp_path / "shards" / "test" / "0.tar", [("a.png", noise(0)), ("a.txt", b"x")])
    refused(tmp_path / "shards", "no columns to choose from", columns="label=x")
