"""The built-in digits: the same pictures as scikit-learn's, split without overlap and without importing it."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from artifacts.errors import ConfigError, DataNotFound
from tasks.data.base import Dataset, dataset_digest
from tasks.data.digits import CLASSES, Digits

# The shipped demo model was trained on the other side of this split: a change leaks held-out pictures into it.
HELD_OUT_IDS = "fb74ff3da851eafd27d5c0fab0b3bcf1ec223ccdf2e7830a43f433c887924359"


def both_roles() -> list[Digits]:
    return [Digits("calibration"), Digits("evaluation")]


def test_digits_equal_those_scikit_learn_loads() -> None:
    from sklearn.datasets import load_digits

    expected = load_digits()
    seen = 0
    for digits in both_roles():
        for sample in digits.samples:
            row = int(sample.id.removeprefix("digits/"))
            pixels = expected.data[row].astype(np.uint8)
            assert (pixels == expected.data[row]).all()
            assert sample.image_hash == hashlib.sha256(pixels.tobytes()).hexdigest()
            assert sample.label == expected.target[row]
            seen += 1
    assert seen == len(expected.data) == 1797


def test_roles_share_no_id_no_stored_picture_and_no_rendered_picture() -> None:
    training, held_out = both_roles()
    assert (len(training.samples), len(held_out.samples)) == (1297, 500)
    for content in (
        lambda digits: {sample.id for sample in digits.samples},
        lambda digits: {sample.image_hash for sample in digits.samples},
        lambda digits: {digits.image(index).tobytes() for index in range(len(digits.samples))},
    ):
        first, second = content(training), content(held_out)
        assert (len(first), len(second)) == (1297, 500)  # the set has no duplicate that a split could separate
        assert not first & second


def test_the_split_is_the_one_the_demo_model_was_trained_on() -> None:
    ids = sorted(sample.id for sample in Digits("evaluation").samples)
    assert hashlib.sha256("\n".join(ids).encode()).hexdigest() == HELD_OUT_IDS


def test_held_out_classes_are_balanced() -> None:
    labels = [sample.label for sample in Digits("evaluation").samples]
    assert [labels.count(label) for label in range(10)] == [50] * 10


@pytest.mark.parametrize("role", ["calibration", "evaluation"])
def test_limit_takes_a_prefix_and_every_ten_hold_all_classes(role) -> None:
    whole = Digits(role)
    assert Digits(role, limit=37).samples == whole.samples[:37]
    assert Digits(role, limit=37).image(36).tobytes() == whole.image(36).tobytes()
    assert len(Digits(role, limit=5000).samples) == len(whole.samples)
    for start in range(0, 500, 10):
        assert {sample.label for sample in whole.samples[start : start + 10]} == set(range(10))


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        Digits("evaluation", limit=limit)


def test_image_is_the_stored_picture_stretched_and_enlarged() -> None:
    from sklearn.datasets import load_digits

    digits = Digits("evaluation", limit=20)
    for index, sample in enumerate(digits.samples):
        image = digits.image(index)
        assert (image.size, image.mode) == ((32, 32), "RGB")
        pixels = np.asarray(image)
        assert (pixels == pixels[:, :, :1]).all()
        stored = load_digits().images[int(sample.id.removeprefix("digits/"))] * 255 / 16
        assert np.abs(pixels[[0, 0, -1, -1], [0, -1, 0, -1], 0] - stored[[0, 0, -1, -1], [0, -1, 0, -1]]).max() <= 1
        assert abs(pixels.mean() - stored.mean()) < 8


def test_captions_name_the_class_through_every_template() -> None:
    used = set()
    for sample in Digits("calibration").samples:
        assert sample.label is not None
        matching = [t for t in CLASSES.templates if t.format(CLASSES.names[sample.label]) == sample.caption]
        assert len(matching) == 1
        used.update(matching)
    assert used == set(CLASSES.templates)


def test_opening_twice_gives_the_same_data() -> None:
    first: Dataset = Digits("evaluation")
    assert dataset_digest(first) == dataset_digest(Digits("evaluation"))
    assert dataset_digest(first) != dataset_digest(Digits("calibration"))
    assert first.source == "digits"


def test_opening_imports_no_heavy_package() -> None:
    code = (
        "import sys; from tasks.data.digits import Digits; Digits('evaluation').image(0);"
        "print([name for name in ('sklearn', 'torch', 'transformers', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_scikit_learn_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(DataNotFound, match="not installed"):
        Digits("evaluation")


def packaged_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let `folder` pass for the installed scikit-learn; return where its digits would lie."""
    spec = ModuleSpec("sklearn", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    path = folder / "datasets" / "data" / "digits.csv.gz"
    path.parent.mkdir(parents=True)
    return path


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packaged_at(tmp_path, monkeypatch)
    with pytest.raises(DataNotFound, match="cannot be read") as caught:
        Digits("evaluation")
    assert caught.value.where == str(path)


@pytest.mark.filterwarnings("ignore:loadtxt")  # numpy warns of the empty file before it is refused
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not gzip", id="not gzip"),
        pytest.param(gzip.compress(b"1,2,3\n" * 1797), id="three columns"),
        pytest.param(gzip.compress(b"zero," * 65), id="words"),
        pytest.param(gzip.compress(b"300,1\n"), id="one row"),
        pytest.param(gzip.compress(b"1,2,3\n" * 1797)[:-12], id="truncated"),
        pytest.param(gzip.compress("\u00e9".encode()), id="not ASCII"),
    ],
)
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged_at(tmp_path, monkeypatch).write_bytes(content)
    with pytest.raises(DataNotFound):
        Digits("evaluation")
