"""Folders as downloaded from the hub, read by the `datasets` library's builders without running their own code."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.data import open_dataset
from tasks.data.base import dataset_digest
from tests.tasks.data.support import classed, noise, pictures, refused, said

CELLS = [{"bytes": noise(seed), "path": f"{seed}.png"} for seed in range(3)]
WORDS = ["one", "two", "three"]
TEST = "data/test-00000-of-00001.parquet"


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders go, so that none is left and no home is needed."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("HOME", "/proc/nowhere")
    return folder


def parquet(folder: Path, *names: str, **columns: list[Any]) -> Path:
    for name in names or (TEST,):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(columns or {"image": CELLS, "text": WORDS}).to_parquet(folder / name)
    return folder


def card(folder: Path, text: str) -> None:
    (folder / "README.md").write_text(f"---\n{text}\n---\n")


def test_parquet_as_downloaded(tmp_path: Path, work: Path) -> None:
    folder = parquet(tmp_path / "set")
    dataset = open_dataset(f"datasets:{folder}", "evaluation")
    assert dataset.source == f"{folder}:test"
    assert [sample.caption for sample in dataset.samples] == WORDS
    assert dataset.image(2).size == (8, 8)
    assert len(os.listdir(work)) == 1  # noqa: PTH208
    del dataset
    assert os.listdir(work) == []  # noqa: PTH208
    refused(folder, f"datasets:{folder}")


def test_links_of_the_hub_s_cache_and_the_names_of_a_card(tmp_path: Path) -> None:
    repository = tmp_path / "datasets--org--set"
    parquet(repository / "blobs", "blob", image=CELLS, label=[1, 0, 1])
    snapshot = repository / "snapshots" / "abc"
    (snapshot / "data").mkdir(parents=True)
    (snapshot / TEST).symlink_to("../../../blobs/blob")
    card(
        snapshot,
        "dataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': cat\n          '1': dog",
    )
    assert classed(f"datasets:{snapshot}") == (("cat", "dog"), ["dog", "cat", "dog"])


def test_splits(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "set", "data/train-00000-of-00001.parquet", TEST)
    refused(f"datasets:{folder}", "name the split", "one of train, test", f"datasets:{folder}:train")
    refused(f"datasets:{folder}:validation", "no split 'validation'")
    assert len(said(f"datasets:{folder}:test")) == 3
    assert said(f"datasets:{folder}:test[1:]") == [("0", "two"), ("1", "three")]


@pytest.mark.parametrize("name", ["data.jsonl", "train.csv"])
def test_tables_of_paths(tmp_path: Path, name: str) -> None:
    folder = pictures(tmp_path / "set", "files/a.png")
    for form in ("files/a.png", "../secret.png"):
        row = {"image": form, "label": "cat"}
        text = "image,label\n" + f"{form},cat\n" * 3 if name.endswith("csv") else (json.dumps(row) + "\n") * 3
        (folder / name).write_text(text)
        if form.startswith(".."):
            refused(f"datasets:{folder}", "plain relative path", "row 0")
        else:
            assert classed(f"datasets:{folder}") == (("cat",), ["cat"] * 3)


def test_an_imagefolder(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", "test/cat/a.png", "test/dog/b.png")
    assert classed(f"datasets:{folder}") == (("cat", "dog"), ["cat", "dog"])
    assert [sample.image_hash for sample in open_dataset(f"datasets:{folder}:test", "evaluation").samples] == [
        sample.image_hash for sample in open_dataset(f"{folder}/test", "evaluation").samples
    ]


def test_a_table_that_is_left_aside_for_the_pictures(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", "img/a.png", "img/b.png", "img/c.png")
    (folder / "data.jsonl").write_text('{"image": "img/a.png", "text": "x"}\n')
    refused(f"datasets:{folder}", "no captions and no classes", "data.jsonl is not read beside pictures", "file_name")


def test_code_of_the_folder_is_not_run(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "set")
    script = f"open({str(tmp_path / 'ran')!r}, 'w')"
    (folder / "loading.py").write_text(script)
    assert len(said(f"datasets:{folder}")) == 3
    (folder / "set.py").write_text(script)
    refused(f"datasets:{folder}", "scripts are no longer supported", "remove the script set.py")
    assert not (tmp_path / "ran").exists()


def test_a_card_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    folder, other = parquet(tmp_path / "set"), parquet(tmp_path / "other")
    card(folder, f"configs:\n- config_name: default\n  data_files: {other / TEST}")
    refused(f"datasets:{folder}", "names a file outside of its folder", str(other / TEST))
    card(folder, "configs:\n- config_name: default\n  data_files: data/train-*")
    refused(f"datasets:{folder}", "README.md may name files that were not downloaded")
    card(folder, "configs: [")
    refused(f"datasets:{folder}", "cannot load it: ParserError")


def test_several_configurations(tmp_path: Path) -> None:
    """Which the library reads as one table unless a card tells them apart."""
    folder = parquet(tmp_path / "set", "one/test-0.parquet", "two/test-0.parquet")
    refused(f"datasets:{folder}", "several folders hold files of the same names: one, two", f"datasets:{folder}/one")
    card(folder, "configs:\n- config_name: one\n  data_files: one/*\n- config_name: two\n  data_files: two/*")
    refused(f"datasets:{folder}", "['one', 'two']", f"datasets:{folder}/FOLDER")
    assert len(said(f"datasets:{folder}/one")) == 3


def test_files_that_are_no_set(tmp_path: Path) -> None:
    refused(f"datasets:{tmp_path}", "neither a saved data set nor one of files")
    folder = parquet(tmp_path / "set")
    (folder / TEST).write_bytes(b"PAR1 noise")
    refused(f"datasets:{folder}", "cannot load", "download the files again")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "0.tar").write_bytes(b"\0" * 1024)
    refused(f"datasets:{tmp_path / 'shards'}", "WebDataset", "wds:")


def test_a_set_is_read_again_when_a_file_changes(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "set")
    before = dataset_digest(open_dataset(f"datasets:{folder}", "evaluation"))
    assert dataset_digest(open_dataset(f"datasets:{folder}", "calibration")) == before
    parquet(folder, image=CELLS, text=["x", *WORDS[1:]])
    assert dataset_digest(open_dataset(f"datasets:{folder}", "evaluation")) != before
