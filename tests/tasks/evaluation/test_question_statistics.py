"""Which samples of a task are drawn together."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from tasks.evaluation.metrics import (
    class_embeddings,
    class_recall,
    mcnemar_p,
    paired_difference,
    predicted_classes,
)
from tasks.evaluation.question_statistics import Side, task_statistics
from tasks.evaluation.scoring import Classification, Retrieval

PICTURES, CAPTIONS_EACH = 40, 5


def retrieval(shared: bool = True) -> Retrieval:
    """Five captions of each picture, or one; rows are places."""
    each = CAPTIONS_EACH if shared else 1
    pairs = [(picture, picture * each + number) for picture in range(PICTURES) for number in range(each)]
    return Retrieval(np.arange(PICTURES), np.arange(PICTURES * each), np.array(pairs))


def test_captions_are_drawn_with_their_picture() -> None:
    groups = retrieval().groups("recall@5_text_to_image")
    assert groups is not None
    np.testing.assert_array_equal(groups, np.repeat(np.arange(PICTURES), CAPTIONS_EACH))
    assert retrieval().groups("recall@5_image_to_text") is None
    assert retrieval(shared=False).groups("recall@1_text_to_image") is None
    assert Classification(2, np.arange(2), np.array([0, 1])).groups("top1") is None


def test_a_caption_of_two_pictures_is_drawn_with_the_first() -> None:
    task = Retrieval(np.arange(3), np.arange(3), np.array([[0, 2], [1, 0], [1, 1], [2, 0], [2, 2]]))
    np.testing.assert_array_equal(task.groups("recall@1_text_to_image"), [1, 1, 0])


def test_captions_of_several_pictures_are_also_counted_each_by_itself() -> None:
    """By brute force over a list with every caption as often as it is there, as CLIP_benchmark has it."""
    rng = np.random.default_rng(9)
    pairs = np.array(
        sorted({(int(p), int(c)) for p, c in zip(np.repeat(np.arange(20), 3), rng.integers(0, 30, 60), strict=True)})
    )
    captions = np.unique(pairs[:, 1])
    pairs[:, 1] = np.searchsorted(captions, pairs[:, 1])
    task = Retrieval(np.arange(20), np.arange(len(captions)), pairs)
    images, texts = (rng.standard_normal((n, 12)).astype(np.float32) for n in (20, len(captions)))
    found = task.hits_of_each_caption(images, texts)
    flat, owner = texts[pairs[:, 1]].astype(np.float64), pairs[:, 0]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images.astype(np.float64), flat)]
    scores = (unit[0] @ unit[1].T).round(6)
    for k in (1, 5, 10):
        to_text = [(owner[np.argsort(-row, kind="stable")[:k]] == picture).any() for picture, row in enumerate(scores)]
        to_image = [owner[text] in np.argsort(-row, kind="stable")[:k] for text, row in enumerate(scores.T)]
        assert found[f"recall@{k}_image_to_text_each_caption"].tolist() == to_text
        assert found[f"recall@{k}_text_to_image_each_caption"].tolist() == to_image
    rows = list(task_statistics(task, "ort", "pytorch", {"fp32": Side(images, texts)}))
    assert sum(str(row["metric"]).endswith("_each_caption") for row in rows) == 6
    assert (
        found["recall@1_image_to_text_each_caption"].mean() < task.hits(images, texts)["recall@1_image_to_text"].mean()
    )


def test_captions_of_one_picture_each_are_counted_once() -> None:
    rng = np.random.default_rng(0)
    embeddings = (rng.standard_normal((n, 4)).astype(np.float32) for n in (PICTURES, PICTURES * CAPTIONS_EACH))
    assert retrieval().hits_of_each_caption(*embeddings) == {}


def test_rows_of_captions_have_the_interval_and_the_test_of_groups() -> None:
    task, rng = retrieval(), np.random.default_rng(4)
    pictures = rng.standard_normal((PICTURES, 8)).astype(np.float32)
    alike = pictures + 0.9 * rng.standard_normal(pictures.shape).astype(np.float32)
    texts = np.repeat(alike, CAPTIONS_EACH, axis=0)
    moved = pictures + 0.6 * rng.standard_normal(pictures.shape).astype(np.float32)
    sides = {"fp32": Side(pictures, texts), "fp8": Side(moved, texts)}
    rows = {row["metric"]: row for row in task_statistics(task, "ort", "pytorch", sides) if row["reference"] == "fp32"}
    for way in ("text_to_image", "image_to_text"):
        metric = f"recall@1_{way}"
        hits = [task.hits(*sides[precision])[metric] for precision in ("fp8", "fp32")]
        expected = paired_difference(*hits, task.groups(metric))
        row = rows[f"{metric}_difference"]
        assert (row["value"], row["low"], row["high"]) == pytest.approx(expected)
        assert rows[f"{metric}_mcnemar_p"]["value"] == pytest.approx(mcnemar_p(*hits, task.groups(metric)))
    plain = paired_difference(*(task.hits(*sides[p])["recall@1_text_to_image"] for p in ("fp8", "fp32")))
    of_captions = rows["recall@1_text_to_image_difference"]
    assert of_captions["high"] - of_captions["low"] > 1.5 * (plain[2] - plain[1])


def test_the_recall_of_classes_is_scikit_learns_to_the_last_digit() -> None:
    """Of twelve classes, one without samples: a mean over the twelve adds up in another order."""
    rng, last_digits = np.random.default_rng(5), set()
    for _ in range(40):
        labels = rng.permutation(np.delete(np.arange(240) % 12, np.arange(240) % 12 == 3))[:150]
        images, texts = (rng.standard_normal((n, 8)).astype(np.float32) for n in (150, 12))
        task = Classification(12, np.arange(12), labels)
        rows = {row["metric"]: row for row in task_statistics(task, "ort", "pytorch", {"fp32": Side(images, texts)})}
        predicted = predicted_classes(images, class_embeddings(texts, 12))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # predictions of the class that no sample has
            expected = balanced_accuracy_score(labels, predicted)
        assert rows["mean_class_recall"]["value"] == expected
        last_digits.add(float(np.nanmean(class_recall(predicted == labels, labels, 12))) == expected)
    assert last_digits == {True, False}
