"""Pinned data: the digest is of contents, and data that changed is not opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifacts.errors import DataError, DataOverlap, DegenerateData, TooFewSamples
from tasks.datasource import pin_both, pin_data


def photographs(folder: Path, count: int, seed: int = 0) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    lines = ["file,caption"]
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        lines.append(f"{index}.png,number {index}")
    (folder / "captions.csv").write_text("\n".join(lines))
    return folder


def test_the_place_does_not_matter_and_the_content_does(tmp_path: Path) -> None:
    first, _ = pin_data(str(photographs(tmp_path / "a", 9)), "calibration", None)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    second, _ = pin_data(str(tmp_path / "b"), "calibration", None)
    assert first.cache_identity() == second.cache_identity()
    assert first.open().samples == second.open().samples
    other, _ = pin_data(str(photographs(tmp_path / "c", 9, seed=1)), "calibration", None)
    fewer, _ = pin_data(str(tmp_path / "a"), "calibration", 8)
    assert len({first.digest, other.digest, fewer.digest}) == 3
    assert (first.samples, fewer.samples) == (9, 8)


@pytest.mark.parametrize("change", ["picture", "caption", "row"])
def test_changed_data_is_not_opened(change: str, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "a", 9)
    ref, _ = pin_data(str(folder), "calibration", None)
    table = folder / "captions.csv"
    if change == "picture":
        Image.new("RGB", (4, 4)).save(folder / "3.png")
    elif change == "caption":
        table.write_text(table.read_text().replace("number 3", "number three"))
    else:
        table.write_text(table.read_text().rpartition("\n")[0])
    with pytest.raises(DataError, match="changed"):
        ref.open()


def test_asking_for_more_than_there_are_uses_all() -> None:
    ref, dataset = pin_data("digits", "calibration", 10_000)
    assert ref.samples == len(dataset.samples) == 1297


@pytest.mark.parametrize(("count", "fine"), [(7, False), (8, True)])
def test_eight_samples_are_needed(count: int, fine: bool, tmp_path: Path) -> None:
    folder = str(photographs(tmp_path / "a", count))
    if fine:
        assert pin_data(folder, "calibration", None)[0].samples == 8
    else:
        with pytest.raises(TooFewSamples):
            pin_data(folder, "calibration", None)


def test_overlap_and_degenerate_sets(tmp_path: Path) -> None:
    first, second = photographs(tmp_path / "a", 9), photographs(tmp_path / "b", 9, seed=1)
    pinned = pin_both(str(first), 512, str(second), 512, [])
    assert pinned.calibration is not None
    assert pinned.calibration.digest != pinned.evaluation.digest
    shutil.copyfile(first / "0.png", second / "8.png")
    with pytest.raises(DataOverlap, match=r"1 of 9 .*8\.png"):
        pin_both(str(first), 512, str(second), 512, [])
    with pytest.raises(DataOverlap):
        pin_both(str(first), 512, str(first), 512, [])
    assert pin_both(None, 512, str(first), 512, []).calibration is None
    for index in range(9):
        shutil.copyfile(first / "0.png", first / f"{index}.png") if index else None
    with pytest.raises(DegenerateData):
        pin_both(str(first), 512, str(second), 512, [])


def test_the_digits_do_not_overlap() -> None:
    pinned = pin_both("digits", 10_000, "digits", 512, [])
    assert pinned.calibration is not None
    assert (pinned.calibration.samples, pinned.evaluation.samples) == (1297, 500)


def test_what_a_published_model_was_calibrated_on_counts_as_overlap(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "a", 9)
    seen = pin_data(str(folder), "evaluation", 512)[1].samples[4].image_hash
    with pytest.raises(DataOverlap, match=r"1 of 9 (?s:.*)calibrated on"):
        pin_both(None, 512, str(folder), 512, [seen])
