"""Tables as spreadsheets, data frames and published sets write them: separators, headers, encodings, missing values."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tests.tasks.data.support import classed, pictures, refused, said

NAMES = ("img/0.png", "img/1.png", "img/2.png")
CAPTIONS = ("a cat", "a dog, wet", 'the "owl"')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures(tmp_path, *NAMES)


def table(header: str, row: str, end: str = "\n") -> str:
    """A table with a plain caption in each row."""
    rows = [row.format(file=name, caption=f"caption {number}") for number, name in enumerate(NAMES)]
    return "".join(line + end for line in (header, *rows))


PLAIN = [(name, f"caption {number}") for number, name in enumerate(NAMES)]


@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("captions.csv", "filepath\ttitle", "{file}\t{caption}"),  # OpenCLIP
        ("captions.tsv", "file\tcaption", "{file}\t{caption}"),
        ("captions.csv", "file;caption", "{file};{caption}"),
        ("captions.csv", "sep=;\nfile;caption", "{file};{caption}"),
        ("captions.csv", "file;caption;;", "{file};{caption};;"),  # a spreadsheet's empty columns
        ("captions.csv", "image_name| comment_number| comment", "{file}| 0| {caption}"),  # Flickr30k
        ("captions.txt", "image,caption", "{file},{caption}"),  # Flickr8k
        ("captions.csv", "file, caption", '{file}, "{caption}"'),
        ("captions.csv", "File ,CAPTION", "{file},{caption}"),
        ("captions.csv", '"file","caption"', '"{file}","{caption}"'),
        ("captions.csv", ",file,caption,", "0,{file},{caption},x"),  # a data frame's index
        ("metadata.csv", "file_name,text,additional_feature", "{file},{caption},1"),
        ("captions.csv", "image,comment", "./{file},{caption}"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_and_headers(folder: Path, name: str, header: str, row: str, end: str) -> None:
    (folder / name).write_bytes(("\ufeff" + table(header, row, end)).encode())
    assert said(folder) == PLAIN


@pytest.mark.parametrize("separator", ["\t", ";", "|", ","])
def test_what_a_data_frame_writes_is_what_it_held(folder: Path, separator: str) -> None:
    frame = pd.DataFrame({"file": NAMES, "caption": [f"{text}{separator} or so" for text in CAPTIONS]})
    frame.to_csv(folder / "captions.csv", sep=separator, index=False)
    assert said(folder) == list(frame.itertuples(index=False, name=None))


def test_a_line_of_flickr30k_that_lacks_a_pipe(folder: Path) -> None:
    text = table("image_name| comment_number| comment", "{file}| 0| {caption}") + "img/0.png| 4   A dog runs .\n"
    (folder / "captions.csv").write_text(text)
    refused(folder, "the row has 2 cells", "captions.csv, line 5", "cells are separated by pipes")


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("utf-16", "iconv -f UTF-16 -t UTF-8"),
        ("utf-16-le", "iconv -f UTF-16LE -t UTF-8"),
        ("utf-16-be", "iconv -f UTF-16BE -t UTF-8"),
        ("utf-32", "iconv -f UTF-32 -t UTF-8"),
        ("cp1252", "iconv -f CP1252 -t UTF-8"),
        ("latin-1", "iconv -f ISO-8859-1 -t UTF-8"),
    ],
)
def test_another_encoding_is_named_and_its_command_converts_it(folder: Path, encoding: str, words: str) -> None:
    last = "caf\u00e9 \u2019s" if encoding == "cp1252" else "caf\u00e9"
    text = table("file,caption", "{file},{caption}") + f"img/0.png,{last}\n"
    path = folder / "captions.csv"
    path.write_bytes(text.encode(encoding))
    refused(folder, words, str(path))
    command = f"{words} {path} > {path}.utf8 && mv {path}.utf8 {path}"
    refused(folder, command)
    subprocess.run(command, shell=True, check=True)
    assert said(folder) == [*PLAIN, ("img/0.png#2", last)]


@pytest.mark.parametrize("missing", ["", "nan", "NaN", "None", "null", "<NA>", " "])
def test_a_missing_caption_is_no_text(folder: Path, missing: str) -> None:
    (folder / "captions.csv").write_text(f"file,caption\nimg/0.png,a\nimg/1.png,{missing}\n")
    refused(folder, "caption", "captions.csv, line 3")


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_value_of_a_data_frame(folder: Path, value: object) -> None:
    frame = pd.DataFrame({"file": NAMES, "caption": ["a", value, "c"]})
    frame.to_parquet(folder / "captions.parquet")
    refused(folder, "empty caption", "row 2")


def test_a_label_may_be_none_but_not_nan(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\nimg/0.png,none\nimg/1.png,cat\n")
    assert classed(folder) == (("cat", "none"), ["none", "cat"])
    (folder / "labels.csv").write_text("file,label\nimg/0.png,nan\nimg/1.png,cat\n")
    refused(folder, "missing value written as text", "line 2")


@pytest.mark.parametrize("value", [["x", "x", "y"], [{"raw": "x"}, {"raw": "y"}], {"raw": ["x", "y", "x"]}])
def test_several_captions_in_a_cell(folder: Path, value: object) -> None:
    """Of which one that comes twice is one pair."""
    (folder / "captions.jsonl").write_text(json.dumps({"file": "img/0.png", "sentences": value}) + "\n")
    assert said(folder) == [("img/0.png", "x"), ("img/0.png#2", "y")]


def test_lists_in_parquet(folder: Path) -> None:
    pd.DataFrame({"file": NAMES[:1], "captions": [["x", "y", "x"]]}).to_parquet(folder / "captions.parquet")
    assert said(folder) == [("img/0.png", "x"), ("img/0.png#2", "y")]


def test_a_column_of_pictures_is_not_one_of_files(folder: Path) -> None:
    pd.DataFrame({"image": [b"x"], "caption": ["x"]}).to_parquet(folder / "captions.parquet")
    refused(folder, "the column image holds pictures", "datasets:FOLDER")


def test_addresses_are_no_files(folder: Path) -> None:
    (folder / "captions.csv").write_text("url,caption\nhttp://x/a.png,x\n")
    refused(folder, "missing column: file", "download the pictures that url names")
    (folder / "captions.csv").write_text("file,caption\nhttp://x/a.png,x\n")
    refused(folder, "'http://x/a.png' is an address", "line 2")
