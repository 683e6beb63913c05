"""Accuracy rows from kept outputs, against scikit-learn; what counts as broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity, paired_cosine_distances

from artifacts.errors import NumericError
from artifacts.schema import check_rows
from artifacts.store.store import Store
from tasks.data.pinned import pin_data
from tasks.pipeline.accuracy import Accuracy
from tests.spearman import mean_spearman
from tests.tasks.support import Case


def value(accuracy: Accuracy, **where: Any) -> Any:
    (row,) = [row for row in accuracy.rows if all(row[key] == wanted for key, wanted in where.items())]
    return row["value"]


@pytest.fixture
def digits(store: Store) -> Case:
    data, _ = pin_data("digits", "evaluation", 60)
    return Case(store, data, {"fp16": 0.001, "fp8": 0.3})


def test_fidelity(digits: Case) -> None:
    accuracy = digits.score()
    check_rows("accuracy", accuracy.rows)
    for encoder in ("image", "text"):
        for precision, reference in (("fp16", "fp32"), ("fp8", "fp32"), ("fp8", "fp16")):
            a, b = (digits.arrays[encoder, p].astype(float) for p in (reference, precision))
            similarity = 1 - paired_cosine_distances(a, b)
            where = {"encoder": encoder, "precision": precision, "reference": reference, "target": "onnxruntime"}
            assert value(accuracy, **where, metric="cosine_mean") == pytest.approx(similarity.mean())
            assert value(accuracy, **where, metric="cosine_min") == pytest.approx(similarity.min())
            assert value(accuracy, **where, metric="max_abs") == pytest.approx(np.abs(a - b).max(), rel=1e-6)
            assert value(accuracy, **where, metric="nonfinite") == 0


def test_zero_shot(digits: Case) -> None:
    accuracy = digits.score()
    dataset = digits.data.open()
    assert dataset.classes is not None
    labels = np.array([sample.label for sample in dataset.samples])
    hits, found = {}, {}
    for precision in ("fp32", "fp16", "fp8"):
        texts = digits.arrays["text", precision].astype(float)
        classes = []
        for name in dataset.classes.names:
            rows = [texts[digits.texts.index(t.replace("{}", name))] for t in dataset.classes.templates]
            classes.append(np.mean([row / np.linalg.norm(row) for row in rows], axis=0))
        scores = cosine_similarity(digits.arrays["image", precision], np.array(classes))
        found[precision] = scores
        hits[precision] = scores.argmax(axis=1) == labels
        assert value(accuracy, precision=precision, metric="top1", reference="labels") == hits[precision].mean()
        recall = balanced_accuracy_score(labels, scores.argmax(axis=1))
        assert value(accuracy, precision=precision, metric="mean_class_recall", reference="labels") == (
            pytest.approx(recall)
        )
    for precision, baseline in (("fp16", "fp32"), ("fp8", "fp32"), ("fp8", "fp16")):
        which = {"precision": precision, "reference": baseline}
        expected = hits[precision].mean() - hits[baseline].mean()
        assert value(accuracy, **which, metric="top1_difference") == pytest.approx(expected)
        won, lost = (
            int((a & ~b).sum()) for a, b in ((hits[precision], hits[baseline]), (hits[baseline], hits[precision]))
        )
        p = 2 * binom.cdf(min(won, lost), won + lost, 0.5)
        assert value(accuracy, **which, metric="top1_mcnemar_p") == pytest.approx(min(p, 1.0))
        agreement = mean_spearman(found[precision], found[baseline])
        assert value(accuracy, **which, metric="rank_agreement", encoder="both") == pytest.approx(agreement)
        assert 0 < agreement < 1
    assert 0 < hits["fp8"].mean() < 1


def test_images_that_could_not_be_decoded_are_left_out_of_the_task(store: Store) -> None:
    data, dataset = pin_data("digits", "evaluation", 60)
    indices = [index for index in range(60) if index not in (0, 17)]
    case = Case(store, data, {"fp16": 0.001, "fp8": 0.3}, indices)
    # Each picture is the very embedding of its class: any shift between keys and labels would be seen.
    assert dataset.classes is not None
    for precision, size in (("fp32", 1.0), ("fp16", 1.0), ("fp8", 1.001)):
        labels = [dataset.samples[i].label for i in indices]
        case.arrays["image", precision] = np.eye(10, dtype=np.float32)[labels] * np.float32(size)
        rows = [np.ones(10) for _ in case.texts]
        for label, name in enumerate(dataset.classes.names):
            for template in dataset.classes.templates:
                rows[case.texts.index(template.replace("{}", name))] = np.eye(10)[label]
        case.arrays["text", precision] = np.array(rows, np.float32) * np.float32(size)
    accuracy = case.score()
    assert value(accuracy, precision="fp8", metric="top1", reference="labels") == 1
    assert {row["samples"] for row in accuracy.rows if row["encoder"] == "both"} == {58}


def test_retrieval_with_several_captions_per_image(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["file,caption"]
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        lines += [f"{index}.png,first of {index}", f"{index}.png,second of {index}"]
    (folder / "captions.csv").write_text("\n".join(lines))
    data, dataset = pin_data(str(folder), "evaluation", None)
    case = Case(store, data, {"fp16": 0.001, "fp8": 0.5})
    for precision in ("fp32", "fp16", "fp8"):  # both rows of an image have the image's one embedding
        case.arrays["image", precision][1::2] = case.arrays["image", precision][::2]
    accuracy = case.score()
    ranked = {}
    for precision in ("fp32", "fp16", "fp8"):
        images = case.arrays["image", precision][::2]
        scores = cosine_similarity(images, case.arrays["text", precision])
        ranked[precision] = scores
        captions = [sample.caption for sample in dataset.samples]
        assert case.texts == captions
        for k in (1, 5, 10):
            top = np.argsort(-scores, axis=1)[:, :k]
            to_text = np.mean([any(captions[j].endswith(f" of {i}") for j in top[i]) for i in range(12)])
            best = np.argsort(-scores.T, axis=1)[:, :k]
            to_image = np.mean([j // 2 in best[j] for j in range(24)])
            where = {"precision": precision, "reference": "captions"}
            assert value(accuracy, **where, metric=f"recall@{k}_image_to_text") == pytest.approx(to_text)
            assert value(accuracy, **where, metric=f"recall@{k}_text_to_image") == pytest.approx(to_image)
    which = {"precision": "fp8", "reference": "fp16", "encoder": "both"}
    for direction, sides in (
        ("image_to_text", (ranked["fp8"], ranked["fp16"])),
        ("text_to_image", (ranked["fp8"].T, ranked["fp16"].T)),
    ):
        agreement = value(accuracy, **which, metric=f"rank_agreement_{direction}")
        assert agreement == pytest.approx(mean_spearman(*sides))
    assert not any(str(row["metric"]).startswith("top") for row in accuracy.rows)
    over = next(row for row in accuracy.rows if row["metric"] == "recall@1_image_to_text_over_chance")
    at_random = value(accuracy, precision="fp32", reference="captions", metric="recall@1_image_to_text") - 2 / 24
    assert (over["precision"], over["target"], over["samples"]) == ("fp32", "pytorch", 12)
    assert over["value"] == pytest.approx(at_random)
    assert float(over["low"] or 0) <= at_random <= float(over["high"] or 0)


def test_fp32_stands_in_for_an_encoder_that_is_not_optimized(digits: Case) -> None:
    accuracy = digits.score(drop=(("text", "fp16"), ("text", "fp8")))
    digits.arrays["text", "fp8"] = digits.arrays["text", "fp32"] * np.float32(1.001)  # FP16's very bits are refused
    digits.arrays["text", "fp16"] = digits.arrays["text", "fp32"]
    both = digits.score()
    for metric in ("top1", "top5"):
        where = {"precision": "fp8", "metric": metric, "reference": "labels"}
        assert value(accuracy, **where) == value(both, **where)
    assert not any(row["encoder"] == "text" for row in accuracy.rows)


def test_a_broken_fp16_baseline_is_an_error(store: Store) -> None:
    data, _ = pin_data("digits", "evaluation", 20)
    with pytest.raises(NumericError, match="FP16 baseline of the image encoder"):
        Case(store, data, {"fp16": 0.4, "fp8": 0.4}).score()


def test_identical_embeddings_differ_by_exactly_nothing(digits: Case) -> None:
    for encoder in ("image", "text"):
        digits.arrays[encoder, "fp16"] = digits.arrays[encoder, "fp32"]
    accuracy = digits.score()
    for metric in ("top1", "top5", "mean_class_recall"):
        where = {"precision": "fp16", "reference": "fp32", "metric": f"{metric}_difference"}
        (row,) = [row for row in accuracy.rows if all(row[key] == wanted for key, wanted in where.items())]
        assert (row["value"], row["low"], row["high"]) == (0, 0, 0)
    assert value(accuracy, precision="fp16", reference="fp32", metric="top1_mcnemar_p") == 1
    (row,) = [
        r for r in accuracy.rows if (r["precision"], r["metric"], r["reference"]) == ("fp8", "top5_difference", "fp32")
    ]
    assert float(row["low"] or 0) < 0 < float(row["high"] or 0)
