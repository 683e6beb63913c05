"""Labels that are one text to the model are refused by both names; a published list of classes is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from artifacts.errors import DataError
from artifacts.store.store import Store
from tasks.data.pinned import DataRef, pin_data
from tasks.pipeline.class_names import require_classes_apart
from tests.tasks.data.support import labelled, noise, zero_shot
from tests.wording import refusal

TEMPLATES = ("a photo of the digit {}", "a handwritten {}")


def labelled_folder(folder: Path, labels: list[str]) -> DataRef:
    """Eight pictures, labelled in turn."""
    folder.mkdir()
    rows = [f"{number}.png,{labels[number % len(labels)]}" for number in range(8)]
    for number in range(8):
        Image.new("RGB", (32, 32), (30 * number, 0, 0)).save(folder / f"{number}.png")
    (folder / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    (folder / "templates.txt").write_text("\n".join(TEMPLATES))
    return pin_data(str(folder), "evaluation", None)[0]


def test_names_that_the_tokenizer_reads_alike(prepared: Any, in_store: Store, tmp_path: Path) -> None:
    del in_store
    long = "a very long name of the digit that fills the whole context of the text encoder and goes on"
    data = labelled_folder(tmp_path / "set", ["one", f"{long} one", f"{long} two"])
    with refusal(DataError, "set") as caught:
        require_classes_apart(prepared.snapshot, prepared.checked.preprocess, data)
    assert repr(f"{long} one") in str(caught.value) and repr(f"{long} two") in str(caught.value)


def test_one_template_that_tells_them_apart_is_enough(prepared: Any, in_store: Store, tmp_path: Path) -> None:
    del in_store
    data = labelled_folder(tmp_path / "set", ["a b", "b"])
    require_classes_apart(prepared.snapshot, prepared.checked.preprocess, data)
    (tmp_path / "set" / "templates.txt").write_text("x " * 30 + "{}\na handwritten {}")
    data = pin_data(str(tmp_path / "set"), "evaluation", None)[0]
    require_classes_apart(prepared.snapshot, prepared.checked.preprocess, data)
    (tmp_path / "set" / "templates.txt").write_text("x " * 30 + "{}")
    data = pin_data(str(tmp_path / "set"), "evaluation", None)[0]
    with pytest.raises(DataError, match="same tokens"):
        require_classes_apart(prepared.snapshot, prepared.checked.preprocess, data)


def test_a_published_list_keeps_its_classes(prepared: Any, in_store: Store, tmp_path: Path) -> None:
    del in_store
    pictures = [noise(number) for number in range(8)]
    folder = zero_shot(tmp_path / "set", [labelled(pictures, [0, 1] * 4)], names="missile\nmissile\n")
    require_classes_apart(prepared.snapshot, prepared.checked.preprocess, pin_data(str(folder), "evaluation", None)[0])
