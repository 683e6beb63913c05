"""The demo model on sets in CLIP_benchmark's layout: its accuracy is what plain transformers and scikit-learn say, and
a set whose labels or captions were shuffled is found out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import normalize

from artifacts.manifest import Row
from artifacts.store.store import Store, activate
from tasks.data.base import Dataset
from tasks.data.digits import CLASSES, Digits
from tasks.data.pinned import pin_data
from tasks.demo import SNAPSHOT
from tasks.evaluation.embedding_table import EmbeddingTable
from tasks.evaluation.kept_embeddings import load_embedded
from tasks.pipeline.checkpoint import check, resolve
from tasks.pipeline.embedding import embed
from tests.tasks.data.support import captioned, digits_zero_shot, labelled, png, retrieval, zero_shot

COUNT = 60
PICTURES = [png(np.asarray(Digits("evaluation", COUNT).image(index))) for index in range(COUNT)]
LABELS = [sample.label or 0 for sample in Digits("evaluation", COUNT).samples]
OTHERS = [LABELS[place] for place in np.random.default_rng(3).permutation(COUNT)]


def fp32_rows(store: Store, folder: Path) -> dict[str, Row]:
    """The rows of FP32's table by metric."""
    with activate(store):
        snapshot = resolve("demo", None, store)
        preprocess = check(snapshot).preprocess
        data, dataset = pin_data(str(folder), "evaluation", None)
        arrays = {
            (encoder, "pytorch", "fp32"): load_embedded(
                embed(snapshot, preprocess, data.seen_by(encoder), encoder, "fp32", "pytorch", None, 16).outputs
            )
            for encoder in ("image", "text")
        }
    table = EmbeddingTable(dataset, {**arrays, ("image", "ort", "fp16"): arrays["image", "pytorch", "fp32"]})
    return {str(row["metric"]): row for row in table.task_rows() if row["precision"] == "fp32"}


def transformers_embeddings(dataset: Dataset, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of all pictures and of the texts, by the library alone."""
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(SNAPSHOT).eval()
    pictures = [dataset.image(index) for index in range(len(dataset.samples))]
    pixels: Any = CLIPImageProcessor.from_pretrained(SNAPSHOT)(images=pictures, return_tensors="pt")["pixel_values"]
    tokens = AutoTokenizer.from_pretrained(SNAPSHOT)(list(texts), padding="max_length", max_length=16, truncation=True)
    with torch.no_grad():
        images = model.get_image_features(pixels).pooler_output.numpy()
        words = model.get_text_features(torch.tensor(tokens["input_ids"])).pooler_output.numpy()
    return normalize(images), normalize(words)


def test_zero_shot_is_that_of_plain_transformers(store: Store, tmp_path: Path) -> None:
    rows = fp32_rows(store, digits_zero_shot(tmp_path / "set", COUNT, shard=25))
    dataset = pin_data(str(tmp_path / "set"), "evaluation", None)[1]
    prompts = [template.replace("{}", name) for name in CLASSES.names for template in CLASSES.templates]
    images, texts = transformers_embeddings(dataset, prompts)
    classes = normalize(texts.reshape(10, len(CLASSES.templates), -1).mean(axis=1))
    expected = accuracy_score(LABELS, (images @ classes.T).argmax(axis=1))
    assert rows["top1"]["value"] == pytest.approx(expected)
    assert expected > 0.9
    assert float(rows["top1_over_chance"]["low"] or 0) > 0.5


def test_labels_that_were_permuted_are_at_chance(store: Store, tmp_path: Path) -> None:
    folder = zero_shot(tmp_path / "set", [labelled(PICTURES, OTHERS)], "\n".join(CLASSES.names))
    row = fp32_rows(store, folder)["top1_over_chance"]
    assert float(row["low"] or 0) <= 0


@pytest.mark.parametrize("permuted", [False, True])
def test_retrieval_with_several_captions(store: Store, tmp_path: Path, permuted: bool) -> None:
    """One picture of each class with three captions; permuted, each picture has those of the next class."""
    places = [LABELS.index(label) for label in range(10)]
    owner = [(label + permuted) % 10 for label in range(10)]
    captions = [[t.replace("{}", CLASSES.names[label]) for t in CLASSES.templates[:3]] for label in owner]
    texts = ["\n".join(lines) for lines in captions]
    folder = retrieval(tmp_path / "set", [captioned([PICTURES[place] for place in places], texts)])
    rows = fp32_rows(store, folder)
    dataset = pin_data(str(folder), "evaluation", None)[1]
    images, words = transformers_embeddings(dataset, [line for lines in captions for line in lines])
    scores = images[::3] @ words.T  # (10 pictures, 30 captions)
    for k in (1, 5):
        to_text = np.mean([any(found // 3 == row for found in np.argsort(-scores[row])[:k]) for row in range(10)])
        to_image = np.mean([column // 3 in np.argsort(-scores[:, column])[:k] for column in range(30)])
        assert rows[f"recall@{k}_image_to_text"]["value"] == pytest.approx(to_text)
        assert rows[f"recall@{k}_text_to_image"]["value"] == pytest.approx(to_image)
    assert rows["recall@1_text_to_image"]["samples"] == 30
    assert (float(rows["recall@1_image_to_text_over_chance"]["low"] or 0) <= 0) is permuted
