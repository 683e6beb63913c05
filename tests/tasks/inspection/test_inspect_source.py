"""What is told of a source: facts as they are, and a refusal exactly where a run refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from artifacts.errors import ClipsmithError, ConfigError, DataUnreachable
from tasks.data import open_dataset
from tasks.data.base import Source
from tasks.data.batches import stream_batches
from tasks.data.pinned import pin_both, pin_data
from tasks.inspection import inspect_source as module
from tasks.inspection import words
from tasks.inspection.holdings import Holdings, Spread
from tasks.inspection.inspect_source import Question, inspect_source
from tests.tasks.data.support import labelled, noise, zero_shot
from tests.tasks.inspection.support import EVIL, messy_folder, unwatched


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    return messy_folder(tmp_path / "messy")


def look(source: object, **more: object) -> Holdings:
    return inspect_source(Question(str(source), **more), unwatched).holdings  # type: ignore[arg-type]


def test_everything_of_a_messy_folder(messy: Path) -> None:
    found = look(messy)
    assert (found.samples, found.pictures, found.captions) == (16, 16, Spread(1, 1, 1))
    assert found.classes is not None and found.stored is not None and found.skipped is not None
    assert {each.name: each.samples for each in found.classes.counts} == {EVIL: 4, "cat": 6, "dog": 6}
    assert found.stored.modes == {"RGB": 3, "L": 3, "P": 2, "RGBA": 2, "CMYK": 2, "1": 2, "I;16": 1}
    assert found.stored.formats == {"PNG": 8, "JPEG": 5, "WEBP": 2}
    sizes = [Image.open(path).size for path in messy.iterdir() if path.stem not in ("none", "labels", "unlisted")]
    widths, heights = zip(*sizes, strict=True)
    assert found.stored.width == Spread(min(widths), float(np.median(widths)), max(widths))
    assert found.stored.height == Spread(min(heights), float(np.median(heights)), max(heights))
    assert found.repeated is not None and found.two_labels is not None and found.unlisted is not None
    assert (found.repeated.groups, found.repeated.pictures) == (2, 4)
    ((one, other),) = found.two_labels.first
    assert [(one.sample, one.label), (other.sample, other.label)] == [("1.jpg", "dog"), ("elsewhere.jpg", "cat")]
    assert [each.sample for each in found.skipped.first] == ["none.jpg"] and found.skipped.samples == 1
    assert (found.unlisted.files, found.unlisted.first) == (1, ("unlisted.JPG",))
    assert found.files == {".jpg": 7, ".png": 8, ".webp": 2, ".csv": 1}
    assert [each.error for each in found.refusals] == ["BadSample"]


def errors_of_a_run(source: Path, role: str, limit: int | None) -> str | None:
    """What a run says to a source when it pins it and streams its pictures."""

    class Plain:
        def image(self, _: Image.Image, /) -> np.ndarray:
            return np.zeros((3, 2, 2), np.float32)

        def text(self, captions: list[str]) -> tuple[np.ndarray, None]:
            return np.zeros((len(captions), 4), np.int64), None

    try:
        if role == "evaluation":
            pin_both(None, 8, str(source), limit or 10**6, [])
        _, dataset = pin_data(str(source), "evaluation", limit)
        for _ in stream_batches(dataset, Plain(), 8):
            pass
    except ClipsmithError as error:
        return type(error).__name__
    return None


def sources(root: Path) -> Iterator[Path]:
    """Sets of every kind that a run takes or refuses, each for one reason."""

    def folder(name: str, lines: list[str], pictures: int, bad: int = 0) -> Path:
        (root / name).mkdir()
        for number in range(pictures):
            (root / name / f"{number}.png").write_bytes(b"no picture" if number < bad else noise(number))
        (root / name / "labels.csv").write_text("\n".join(["file,label", *lines]) + "\n")
        return root / name

    yield folder("good", [f"{n}.png,{'ab'[n % 2]}" for n in range(10)], 10)
    yield folder("small", [f"{n}.png,{'ab'[n % 2]}" for n in range(7)], 7)
    yield folder("empty", [], 0)
    yield folder("one-class", [f"{n}.png,a" for n in range(10)], 10)
    yield folder("missing", [f"{n}.png,{'ab'[n % 2]}" for n in range(10)], 9)
    yield folder("alike", [f"{n}.png,{('Cat', 'cat')[n % 2]}" for n in range(10)], 10)
    yield folder("just-good-enough", [f"{n}.png,{'ab'[n % 2]}" for n in range(100)], 100, bad=1)
    yield folder("too-bad", [f"{n}.png,{'ab'[n % 2]}" for n in range(99)], 99, bad=1)
    same = folder("same", [f"{n}.png,{'ab'[n % 2]}" for n in range(10)], 10)
    for number in range(10):
        shutil.copyfile(same / "0.png", same / f"{number}.png") if number else None
    yield same
    no_table = folder("no-table", [], 3)
    (no_table / "labels.csv").unlink()
    yield no_table
    yield root / "nothing"
    yield zero_shot(root / "shards", [labelled([noise(n) for n in range(9)], [n % 2 for n in range(9)])])


@pytest.mark.parametrize("role", ["evaluation", "calibration"])
def test_it_refuses_what_a_run_refuses(role: str, tmp_path: Path) -> None:
    answers = {}
    for source in sources(tmp_path):
        refusals = look(source, role=role).refusals
        answers[source.name] = refusals[0].error if refusals else None
        assert answers[source.name] == errors_of_a_run(source, role, None), source.name
    assert set(answers.values()) == {None, "TooFewSamples", "DegenerateData", "DataError", "BadSample", "DataNotFound"}
    assert answers["one-class"] == ("DegenerateData" if role == "evaluation" else None)


def test_what_is_known_of_a_refused_folder_is_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.JPG").write_bytes(noise(1))
    (tmp_path / "notes").write_text("x")
    found = look(tmp_path)
    assert (found.samples, found.classes, found.stored) == (None, None, None)
    assert found.files == {".jpg": 1, "no suffix": 1}
    (refusal,) = found.refusals
    assert refusal.error == "DataNotFound" and "no table" in refusal.what and refusal.fix is not None


def test_a_limit_is_the_draw_of_a_run(messy: Path) -> None:
    found = look(messy, limit=9)
    drawn = open_dataset(str(messy), "evaluation", 9)
    assert found.samples == 9 and found.unlisted is None and found.classes is not None
    labels = [sample.label for sample in drawn.samples]
    assert [each.samples for each in found.classes.counts] == [labels.count(number) for number in range(3)]
    for wrong in (0, -1):
        with pytest.raises(ConfigError):
            look(messy, limit=wrong)


def test_two_sources_are_held_against_each_other_in_their_roles(messy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(messy / "3.webp", other / "same.img")
    for number in range(8):
        (other / f"{number}.png").write_bytes(noise(number))
    names = ["same.img", *(f"{number}.png" for number in range(8))]
    (other / "captions.csv").write_text("file,caption\n" + "".join(f"{name},a\n" for name in names[:-1]) + "7.png,b\n")
    for role in ("evaluation", "calibration"):
        found = look(other, role=role, against=str(messy))
        assert found.overlap is not None and found.overlap.samples == 1 and found.overlap.others == 16
        assert [here for here, _ in found.overlap.first] == ["same.img"]
        overlaps = [each for each in found.refusals if each.error == "DataOverlap"]
        assert len(overlaps) == 1 and ("same.img" in overlaps[0].what) == (role == "evaluation")
    assert look("digits", against="digits").refusals == ()
    missing = look(other, against=str(tmp_path / "nothing"))
    assert missing.overlap is None and missing.refusals[0].source == str(tmp_path / "nothing")


def test_only_so_many_of_the_other_source_are_looked_at() -> None:
    found = look("digits", limit=20, against="digits", against_limit=30)
    assert found.samples == 20 and found.overlap is not None and found.overlap.others == 30


def test_a_hub_that_does_not_answer_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise DataUnreachable("no network")

    monkeypatch.setattr(module, "open_dataset", unreachable)
    with pytest.raises(DataUnreachable):
        look("datasets:org/name")


@pytest.mark.parametrize("followed", [False, True])
@pytest.mark.parametrize("form", ["messy", "./messy/", "link", "messy/../messy"])
def test_a_file_is_listed_however_the_folder_is_named(
    form: str, followed: bool, messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*arguments: Any) -> Source:
        dataset = open_dataset(*arguments)
        dataset.files = [path.resolve() if followed else path for path in dataset.files]
        return dataset

    monkeypatch.setattr(module, "open_dataset", opened)
    (tmp_path / "link").symlink_to("messy")
    (messy / "0.png").rename(messy / "target")
    (messy / "0.png").symlink_to("target")
    monkeypatch.chdir(tmp_path)
    found = look(form).unlisted
    assert found is not None and found.first == ("unlisted.JPG",)


def test_what_a_source_says_of_itself_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.data.digits.Digits.notes", ("written\nby hand",), raising=False)
    found = look("digits", limit=10)
    assert found.notes == ("written\nby hand",)
    assert ("note", "written by hand") in list(words.lines(found))


def test_a_folder_called_digits_is_not_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "a.png").write_bytes(noise(1))
    monkeypatch.chdir(tmp_path)
    found = look("digits")
    assert (found.files, found.unlisted, found.samples) == (None, None, 500)
