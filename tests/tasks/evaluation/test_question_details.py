"""Classes and samples one by one: against a case in which it is known what changes."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import recall_score

from artifacts.store.store import Store
from tasks.data.digits import Digits
from tasks.data.pinned import pin_data
from tasks.evaluation.embedding_table import EmbeddingTable
from tasks.evaluation.question_details import alike_names, changed_rows, class_rows
from tests.tasks.data.support import captioned, png, retrieval
from tests.tasks.support import Case

SAMPLES = 60


@pytest.fixture
def made(store: Store) -> tuple[EmbeddingTable, list[int]]:
    """Pictures that are their class's text; FP8 takes the fourth for another class, and is unsure of the eighth."""
    data, dataset = pin_data("digits", "evaluation", SAMPLES)
    case = Case(store, data, {})
    assert dataset.classes is not None
    labels = [sample.label or 0 for sample in dataset.samples]
    classes = {name: label for label, name in enumerate(dataset.classes.names)}
    texts = np.ones((len(case.texts), 10), np.float32)
    for name, label in classes.items():
        for template in dataset.classes.templates:
            texts[case.texts.index(template.replace("{}", name))] = np.eye(10)[label]
    right = np.eye(10, dtype=np.float32)[labels]
    wrong = right.copy()
    wrong[3] = np.eye(10)[(labels[3] + 1) % 10]
    wrong[7] += 0.8 * np.eye(10, dtype=np.float32)[(labels[7] + 2) % 10]
    arrays = {("image", "pytorch", "fp32"): right, ("image", "ort", "fp8"): wrong}
    table = {key: (list(range(SAMPLES)), array) for key, array in arrays.items()}
    return EmbeddingTable(dataset, table | {("text", "pytorch", "fp32"): (case.texts, texts)}), labels


def test_the_recall_of_every_class_is_scikit_learns(made: tuple[EmbeddingTable, list[int]]) -> None:
    table, labels = made
    rows = list(class_rows(table))
    predicted = [(labels[3] + 1) % 10 if row == 3 else label for row, label in enumerate(labels)]
    expected = recall_score(labels, predicted, average=None, labels=range(10))
    assert [row["fp8"] for row in rows] == pytest.approx(expected)
    assert {row["fp32"] for row in rows} == {1.0}
    assert {row["fp16"] for row in rows} == {None}
    assert [row["samples"] for row in rows] == np.bincount(labels).tolist()
    assert table.dataset.classes is not None
    assert [row["class"] for row in rows] == list(table.dataset.classes.names)


def test_a_class_without_samples_has_no_recall(made: tuple[EmbeddingTable, list[int]]) -> None:
    table, labels = made
    kept = [place for place, label in enumerate(labels) if label != 4]
    arrays = {
        key: (kept, rows[kept]) if key[0] == "image" else (own, rows) for key, (own, rows) in table.arrays.items()
    }
    rows = list(class_rows(EmbeddingTable(table.dataset, arrays)))
    assert rows[4] == {"target": "ort", "class": "four", "samples": 0, "fp32": None, "fp16": None, "fp8": None}
    assert all(row["fp32"] == 1.0 for row in rows if row["class"] != "four")


def test_a_class_without_a_name_is_shown_as_such(made: tuple[EmbeddingTable, list[int]]) -> None:
    table, _ = made
    classes = table.dataset.classes
    assert classes is not None
    nameless = Digits("evaluation", SAMPLES)
    nameless.classes = replace(classes, names=("", *classes.names[1:]))
    rows = list(class_rows(EmbeddingTable(nameless, table.arrays)))
    assert [row["class"] for row in rows][:2] == ["(no name)", "one"]


def test_classes_of_one_embedding_are_named(made: tuple[EmbeddingTable, list[int]]) -> None:
    table, _ = made
    assert alike_names(table) == []
    texts, rows = table.arrays["text", "pytorch", "fp32"]
    rows = rows.copy()
    rows[[place for place, text in enumerate(texts) if "nine" in text]] = rows[
        next(p for p, t in enumerate(texts) if "one" in t)
    ]
    same = EmbeddingTable(table.dataset, table.arrays | {("text", "pytorch", "fp32"): (texts, rows)})
    assert alike_names(same) == [["one", "nine"]]
    (row,) = [row for row in same.task_rows() if row["metric"] == "alike_classes"]
    assert (row["encoder"], row["precision"], row["value"], row["samples"]) == ("text", "fp32", 2, 10)
    assert not [row for row in table.task_rows() if row["metric"] == "alike_classes"]


def test_what_changes_most_comes_first(made: tuple[EmbeddingTable, list[int]]) -> None:
    table, labels = made
    assert table.dataset.classes is not None
    names = table.dataset.classes.names
    first, second, *rest = changed_rows(table)
    assert (first["sample"], second["sample"]) == (table.dataset.samples[3].id, table.dataset.samples[7].id)
    assert (first["fp32_margin"], first["fp8_margin"]) == pytest.approx((1, -1))
    assert first["truth"] == names[labels[3]]
    data = base64.b64decode(str(first["thumbnail"]).removeprefix("data:image/jpeg;base64,"))
    assert len(data) < 5000
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.float64)
    original = np.asarray(table.dataset.image(3).convert("L"), np.float64)
    assert shown.shape == original.shape
    assert abs(shown - original).mean() < 5
    assert str(first["fp32"]).startswith(f"{names[labels[3]]} > ")
    assert str(first["fp8"]).startswith(f"{names[(labels[3] + 1) % 10]} > ")
    assert second["fp8_margin"] == pytest.approx(0.2 / np.sqrt(1 + 0.8**2))
    assert str(second["fp8"]).split(" > ")[:2] == [names[labels[7]], names[(labels[7] + 2) % 10]]
    assert all(row["fp32_margin"] == row["fp8_margin"] for row in rest)


def test_retrieval_shows_all_captions_of_a_large_picture_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [png(rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)) for _ in range(8)]
    texts = [f"one of {n}\ntwo of {n}" for n in range(8)]
    data, dataset = pin_data(str(retrieval(tmp_path, [captioned(pictures, texts)])), "evaluation", None)
    right = np.eye(8, dtype=np.float32)
    wrong = right.copy()
    wrong[5] = right[6]
    texts_array = np.repeat(right, 2, axis=0)
    places = list(range(0, 16, 2))
    arrays = {("image", "pytorch", "fp32"): (places, right), ("image", "ort", "fp8"): (places, wrong)}
    table = EmbeddingTable(dataset, arrays | {("text", "pytorch", "fp32"): ([], texts_array)})
    first, *_ = changed_rows(table)
    assert data.samples == 16
    assert (first["sample"], first["truth"]) == ("s0000005", "one of 5 / two of 5")
    assert str(first["fp8"]).startswith("one of 6 > two of 6")
    uri = str(first["thumbnail"]).removeprefix("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(uri))).size == (64, 96)
