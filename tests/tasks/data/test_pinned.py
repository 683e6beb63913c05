"""Pinned data: the digest is of contents, and data that changed is not opened."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from artifacts.errors import DataError, DataOverlap, DegenerateData, TooFewSamples
from tasks.data import open_dataset, opened
from tasks.data.base import Role, Source, dataset_digest
from tasks.data.digits import Digits
from tasks.data.pinned import DataRef, pin_both, pin_data
from tests.tasks.data.support import labelled, noise, zero_shot
from tests.wording import refusal


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


def test_columns_belong_to_what_is_pinned(tmp_path: Path) -> None:
    """Other columns are other data to the steps; the same data by another choice is not."""
    folder = photographs(tmp_path / "a", 9)
    rows = (folder / "captions.csv").read_text().replace("caption", "title", 1).splitlines()
    (folder / "captions.csv").write_text(
        "\n".join([f"{rows[0]},text", *(f"{row},the {row[0]}" for row in rows[1:])]) + "\n"
    )
    refs = [
        pin_data(str(folder), "calibration", None, columns)[0]
        for columns in ("caption=title", "caption=text", "image=file,caption=title")
    ]
    assert refs[0].digest == refs[2].digest != refs[1].digest
    assert refs[0].cache_identity() == refs[2].cache_identity() != refs[1].cache_identity()
    for ref in refs:
        assert dataset_digest(DataRef.model_validate_json(ref.model_dump_json()).open()) == ref.digest
    pinned = pin_both(str(folder), 512, "digits", 64, [], "caption=text", None)
    assert pinned.calibration is not None and pinned.calibration.digest == refs[1].digest


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
    with refusal(DataOverlap):
        pin_both(None, 512, str(folder), 512, [seen])


def test_the_text_encoder_sees_texts_alone(tmp_path: Path) -> None:
    """Other pictures of the same classes: the classifier is the same."""
    classes, templates = "cat\ndog\n", "a {c}\n"
    refs = []
    for name, first, use in (("a", 0, templates), ("b", 50, templates), ("c", 0, "the {c}\n")):
        members = labelled([noise(first + n) for n in range(9)], [n % 2 for n in range(9)])
        refs.append(pin_data(str(zero_shot(tmp_path / name, [members], classes, use)), "evaluation", None)[0])
    texts = [ref.seen_by("text").cache_identity() for ref in refs]
    assert texts[0] == texts[1] != texts[2]
    assert len({ref.seen_by("image").cache_identity() for ref in refs}) == 3
    assert refs[0].seen_by("text").open().samples == refs[0].open().samples


def test_one_class_is_not_evaluated_on_but_calibrated_on(tmp_path: Path) -> None:
    folder, other = tmp_path / "one", tmp_path / "two"
    zero_shot(folder, [labelled([noise(n) for n in range(9)], [0] * 9)], names="cat\n")
    zero_shot(other, [labelled([noise(n + 50) for n in range(9)], [n % 2 for n in range(9)])])
    assert pin_both(str(folder), 512, str(other), 512, []).evaluation.samples == 9
    with refusal(DegenerateData, "one:test"):
        pin_both(str(other), 512, str(folder), 512, [])


def test_overlap_of_shards_and_of_datasets(tmp_path: Path) -> None:
    """The same files in two kinds of source are the same pictures."""
    files = [noise(n) for n in range(12)]
    shards = str(zero_shot(tmp_path / "shards", [labelled(files[:9], [n % 2 for n in range(9)])]))
    for number, data in enumerate(files):
        (tmp_path / f"{number}.png").write_bytes(data)

    def saved(name: str, numbers: range) -> str:
        pictures = [str(tmp_path / f"{n}.png") for n in numbers]
        table = datasets.Dataset.from_dict({"image": pictures, "text": [f"number {n}" for n in numbers]})
        embedded = table.cast_column("image", datasets.Image()).map(lambda row: row)
        embedded.save_to_disk(str(tmp_path / name))
        return f"datasets:{tmp_path / name}"

    first, second = saved("first", range(8)), saved("second", range(3, 12))
    with pytest.raises(DataOverlap, match=r"8 of 9 .*s0000000"):
        pin_both(first, 512, shards, 512, [])
    with refusal(DataOverlap, "second"):
        pin_both(first, 512, second, 512, [])
    with refusal(DataOverlap, "second"):
        pin_both(shards, 512, second, 512, [])


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that are read and hashed, one entry each time."""
    made: list[str] = []

    def counted(spec: str, role: Role, limit: int | None = None, columns: str | None = None) -> Source:
        made.append(spec)
        return open_dataset(spec, role, limit, columns)

    monkeypatch.setattr(opened, "open_dataset", counted)
    monkeypatch.setattr(opened, "_kept", {})
    return made


def settle() -> None:
    """Let the kernel's clock go on, so that the times of files say whether they are written again."""
    time.sleep(2 * opened._TICK_NS / 1e9)


def test_a_set_is_read_once_while_nobody_touches_it(openings: list[str], tmp_path: Path) -> None:
    folder = photographs(tmp_path / "a", 9)
    settle()
    ref, dataset = pin_data(str(folder), "calibration", None)
    assert ref.open() is ref.open() is pin_data(str(folder), "calibration", None)[1] is dataset
    assert pin_data(str(folder), "calibration", 8)[1] is not dataset
    assert openings == [str(folder)] * 2


@pytest.mark.parametrize("change", ["picture", "in place", "caption", "link", "templates", "removed"])
def test_a_set_that_changes_between_runs_is_read_again(change: str, openings: list[str], tmp_path: Path) -> None:
    photographs(tmp_path / "a", 9)
    photographs(tmp_path / "b", 9, seed=1)
    folder = tmp_path / "current"
    folder.symlink_to(tmp_path / "a")
    settle()
    before, _ = pin_data(str(folder), "calibration", None)
    settle()
    table = folder / "captions.csv"
    if change == "picture":
        shutil.copyfile(tmp_path / "b" / "3.png", folder / "3.png")
    elif change == "in place":  # the same inode and size, and a modification time that was put back
        path = folder / "3.png"
        stat, data = path.stat(), bytearray(path.read_bytes())
        data[-1] ^= 1
        with path.open("r+b") as stream:
            stream.write(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "caption":
        table.write_text(table.read_text().replace("number 3", "number 4."))
    elif change == "link":
        folder.unlink()
        folder.symlink_to(tmp_path / "b")
    elif change == "templates":
        table.write_text(table.read_text().replace("caption", "label"))
        table.rename(folder / "labels.csv")
        (folder / "templates.txt").write_text("a {}")
    else:
        (folder / "3.png").unlink()
        table.write_text("\n".join(line for line in table.read_text().splitlines() if not line.startswith("3.")))
    assert pin_data(str(folder), "calibration", None)[0].digest != before.digest
    assert len(openings) == 2
    with pytest.raises(DataError, match="changed"):
        before.open()


def test_a_set_that_is_being_written_is_read_every_time(openings: list[str], tmp_path: Path) -> None:
    folder = photographs(tmp_path / "a", 9)
    os.utime(folder / "3.png")  # its change time is now
    ref, _ = pin_data(str(folder), "calibration", None)
    ref.open()
    assert len(openings) == 2


def test_shards_and_saved_sets_are_read_once_too(openings: list[str], tmp_path: Path) -> None:
    shards = zero_shot(tmp_path / "shards", [labelled([noise(n) for n in range(9)], [n % 2 for n in range(9)])])
    (tmp_path / "picture.png").write_bytes(noise(0))
    pictures = [str(tmp_path / "picture.png")] * 9
    table = datasets.Dataset.from_dict({"image": pictures, "text": [f"number {n}" for n in range(9)]})
    table = table.cast_column("image", datasets.Image())
    table.select(range(8)).save_to_disk(str(tmp_path / "saved"))
    settle()
    sources = [str(shards), f"datasets:{tmp_path / 'saved'}", "digits"]
    refs = [DataRef.model_validate(opened_ref(spec)) for spec in sources]
    for ref in refs:
        ref.open()
    assert openings == sources
    shutil.rmtree(tmp_path / "saved")
    table.save_to_disk(str(tmp_path / "saved"))
    (shards / "classnames.txt").write_text("another\nname\n")
    for ref in refs[:2]:
        with pytest.raises(DataError, match="changed"):
            ref.open()
    assert len(openings) == 5


def opened_ref(spec: str) -> dict[str, Any]:
    """What pins a set, however alike its pictures are."""
    found = opened.opened(spec, "evaluation", None)
    return {
        "spec": spec,
        "role": "evaluation",
        "limit": None,
        "digest": found.digest,
        "samples": len(found.dataset.samples),
    }


def test_what_a_name_on_the_hub_means_is_asked_by_every_run(
    openings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set without files of its own is looked for when it is pinned, and not again by the steps of that run."""
    monkeypatch.setattr(Digits, "files", (), raising=False)
    monkeypatch.setattr(Digits, "__setattr__", _without_files)
    for run in (1, 2):
        ref, _ = pin_data("digits", "evaluation", 20)
        ref.open()
        assert len(openings) == run


def _without_files(digits: Digits, name: str, value: object) -> None:
    if name != "files":
        object.__setattr__(digits, name, value)
