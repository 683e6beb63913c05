"""Sources are found by name, and unsound sets are refused with their cause."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import pytest
from PIL import Image
from skimage import data as pictures

from artifacts.errors import ConfigError, DataError, DataNotFound, DataOverlap, DegenerateData, TooFewSamples
from tasks.data import check_classes, check_disjoint, check_distinct, check_enough, open_dataset
from tasks.data.base import Classes, Dataset, Sample, dataset_digest
from tasks.data.folder import Folder
from tasks.data.hf import HfDataset
from tests.tasks.data.support import noise, write_tar
from tests.tasks.data.support import pictures as make_pictures
from tests.wording import refusal


@dataclass
class Listed:
    """A data set without pictures."""

    samples: Sequence[Sample]
    classes: Classes | None = None
    source: str = "listed"

    def image(self, index: int) -> Image.Image:
        raise NotImplementedError


def listed(count: int, start: int = 0) -> Dataset:
    return Listed([Sample(f"s{n}", f"{n:064x}", f"caption {n}") for n in range(start, start + count)])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(pictures.coffee()[::8, ::8]).save(folder / "a.png")
    (folder / "captions.csv").write_text("file,caption\na.png,one\na.png,two\n")
    return folder


# --- opening -----------------------------------------------------------------------------------------------


def test_digits() -> None:
    calibration, evaluation = open_dataset("digits", "calibration", 20), open_dataset("digits", "evaluation", 20)
    assert len(calibration.samples) == 20
    check_enough(calibration)
    check_distinct(calibration)
    check_disjoint(calibration, evaluation)


def test_folder(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_dataset(str(photo), "evaluation"), Folder)
    assert len(open_dataset(str(photo), "evaluation", limit=1).samples) == 1
    monkeypatch.chdir(photo.parent)
    assert open_dataset("photos", "calibration").source == str(photo)


def test_saved_folder_with_and_without_prefix(photo: Path, tmp_path: Path) -> None:
    rows = {"image": [str(photo / "a.png")], "text": ["a cup"]}
    table = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    table.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": table}).save_to_disk(str(tmp_path / "several"))
    bare = open_dataset(str(tmp_path / "one"), "calibration")
    assert isinstance(bare, HfDataset)
    assert dataset_digest(open_dataset(f"datasets:{tmp_path / 'one'}", "calibration")) == dataset_digest(bare)
    assert isinstance(open_dataset(str(tmp_path / "several"), "calibration"), HfDataset)


@pytest.mark.parametrize("spec", ["", "nothing", "/no/such/folder", "Digits", "a\0b", "x" * 5000])
def test_nothing_of_that_name(spec: str) -> None:
    with refusal(DataNotFound):
        open_dataset(spec, "calibration")


def test_a_file_is_not_a_folder(photo: Path) -> None:
    with pytest.raises(DataNotFound):
        open_dataset(str(photo / "captions.csv"), "calibration")


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_below_one(photo: Path, limit: int) -> None:
    with pytest.raises(ConfigError, match="limit"):
        open_dataset(str(photo), "calibration", limit)


@pytest.mark.parametrize("place", ["class", "picture", "folder", "shard"])
def test_names_that_are_not_utf_8_are_refused(place: str, tmp_path: Path) -> None:
    """As file systems and archives keep those of another encoding: no table, document or report could."""
    latin = os.fsdecode("caf\xe9".encode("latin-1"))
    root = tmp_path / (latin if place == "folder" else "set")
    if place == "shard":
        write_tar(root / "test" / "0.tar", [(f"{latin}.png", noise(0)), (f"{latin}.cls", b"0")])
        (root / "classnames.txt").write_text("cup\n")
    else:
        names = (f"{latin if place == 'class' else 'cup'}/0.png", f"pot/{latin if place == 'picture' else 1}.png")
        make_pictures(root, *names)
    with refusal(DataError):
        open_dataset(str(root), "evaluation")


def test_importing_is_light() -> None:
    modules = "tasks.data, tasks.data.folder, tasks.data.hf, tasks.data.batches, tasks.data.images"
    heavy = "{'torch', 'numpy', 'PIL', 'datasets', 'pandas', 'pyarrow', 'httpx'}"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- checks ------------------------------------------------------------------------------------------------


def test_enough() -> None:
    check_enough(listed(8))
    check_enough(listed(2), minimum=2)
    with pytest.raises(TooFewSamples, match="only 7 of 8 samples"):
        check_enough(listed(7))


def test_empty_has_its_own_words() -> None:
    with pytest.raises(TooFewSamples, match="is empty"):
        check_enough(listed(0))


def test_distinct() -> None:
    check_distinct(listed(8))
    check_distinct(listed(1))
    check_distinct(listed(0))


def test_identical_images() -> None:
    same = Listed([Sample(f"s{n}", "0" * 64, f"caption {n}") for n in range(9)])
    with refusal(DegenerateData, "listed"):
        check_distinct(same)


def test_identical_captions() -> None:
    same = [replace(sample, caption="a photo") for sample in listed(9).samples]
    with refusal(DegenerateData, "listed"):
        check_distinct(Listed(same))
    check_distinct(Listed(same, Classes(("photo",), ("a {}",))))


def test_one_class_only() -> None:
    samples = [replace(sample, label=1) for sample in listed(9).samples]
    two = Classes(("cat", "dog"), ("a {}",))
    with refusal(DegenerateData, "listed"):
        check_classes(Listed(samples, two))
    check_classes(Listed([*samples, replace(samples[0], label=0)], two))
    check_classes(listed(9))


def test_disjoint() -> None:
    check_disjoint(listed(8), listed(8, start=8))
    check_disjoint(listed(0), listed(8))


def test_overlap_names_the_samples() -> None:
    with refusal(DataOverlap, "listed and listed"):
        check_disjoint(listed(8), listed(10, start=6))
    with refusal(DataOverlap, "listed and listed"):
        check_disjoint(listed(8), listed(8))
