"""Kept outputs are those of the model on the evaluation set, row by row."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from artifacts.errors import NumericError
from artifacts.store import Store
from tasks import embedding
from tasks.clip import family_named
from tasks.datasource import DataRef, pin_data
from tasks.embedding import Embeddings, embed, evaluation_texts, prompts_of
from tasks.engines import BatchProfile
from tasks.engines.checked import CheckedRunner
from tasks.preprocess import Preprocess

pytestmark = [pytest.mark.xdist_group("prepared"), pytest.mark.usefixtures("in_store")]


@pytest.fixture
def data() -> DataRef:
    return pin_data("digits", "evaluation", 20)[0]


def run(prepared: Any, data: DataRef, encoder: Any, batch: int = 7) -> Embeddings:
    return embed(prepared.snapshot, prepared.checked.preprocess, data, encoder, "fp32", "pytorch", None, batch)


def load(store: Store, result: Embeddings) -> tuple[list[Any], np.ndarray]:
    folder = store.path(result.outputs)
    return json.loads((folder / "keys.json").read_text()), np.load(folder / "embeddings.npy")


def test_images_are_those_of_plain_transformers(prepared: Any, in_store: Store, data: DataRef) -> None:
    import torch
    from transformers import CLIPImageProcessor, CLIPModel

    keys, array = load(in_store, run(prepared, data, "image"))
    dataset = data.open()
    model = CLIPModel.from_pretrained(prepared.snapshot.root, attn_implementation="eager").eval()
    images = CLIPImageProcessor.from_pretrained(prepared.snapshot.root)
    pixels = images(images=[dataset.image(index) for index in range(20)], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model.get_image_features(pixels).pooler_output.numpy()
    assert keys == list(range(20))
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, expected, atol=2e-5)
    assert np.linalg.norm(array, axis=1).std() > 1e-3  # not normalised


def test_texts_are_those_of_plain_transformers(prepared: Any, in_store: Store, data: DataRef) -> None:
    import torch
    from transformers import AutoTokenizer, CLIPModel

    keys, array = load(in_store, run(prepared, data, "text"))
    dataset = data.open()
    assert keys == evaluation_texts(dataset)
    assert set(keys) >= {sample.caption for sample in dataset.samples}
    assert len(keys) == len(set(keys))
    tokenizer = AutoTokenizer.from_pretrained(prepared.snapshot.root)
    tokens = tokenizer(keys, padding="max_length", truncation=True, max_length=16)["input_ids"]
    model = CLIPModel.from_pretrained(prepared.snapshot.root, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = model.get_text_features(torch.tensor(tokens)).pooler_output.numpy()
    np.testing.assert_allclose(array, expected, atol=2e-5)


def test_batches_do_not_matter(prepared: Any, in_store: Store, data: DataRef) -> None:
    first, second = (load(in_store, run(prepared, data, "image", batch))[1] for batch in (1, 20))
    np.testing.assert_allclose(first, second, atol=2e-5)


def test_prompts_come_class_by_class(data: DataRef) -> None:
    dataset = data.open()
    assert dataset.classes is not None
    prompts = prompts_of(dataset)
    names, templates = dataset.classes.names, dataset.classes.templates
    assert prompts == [template.replace("{}", name) for name in names for template in templates]


class Runner:
    """An engine that gives NaN for one sample."""

    name = "fp8 broken"

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def infer(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        out = np.ones((len(feed["pixel_values"]), 4), np.float32)
        if len(out) == 6:  # the last batch of 20 in batches of 7
            out[2, 1] = self.value
        return {"image_embeds": out}

    value = np.nan


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_bad_output_is_an_error(
    value: float, prepared: Any, data: DataRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runner, "value", value)
    monkeypatch.setattr(embedding, "_torch_runner", lambda *_: Runner())
    with pytest.raises(NumericError, match="1 of 20 image embeddings") as caught:
        run(prepared, data, "image")
    assert caught.value.where == "first sample: 16"


class Means:
    """Stands for an engine: each picture gives the means of its three channels."""

    name = "fp16 small"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __enter__(self) -> Means:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_input_metadata(self, **_: object) -> dict[str, Any]:
        dtype = SimpleNamespace(numpy=lambda: np.dtype(np.float16))
        return {"pixel_values": (dtype, ("batch", 3, "height", "width"))}

    def infer(self, feed: dict[str, np.ndarray], **_: object) -> dict[str, np.ndarray]:
        self.batches.append(len(feed["pixel_values"]))
        return {"image_embeds": feed["pixel_values"].astype(np.float32).mean(axis=(2, 3))}


@pytest.mark.parametrize(
    ("size", "smallest", "batches"), [(7, 7, [7, 7, 7]), (6, 4, [6, 6, 6, 4]), (20, 32, [32]), (10, 2, [10, 10])]
)
def test_a_batch_smaller_than_the_engine_takes_is_filled_up(
    size: int, smallest: int, batches: list[int], prepared: Any, in_store: Store, data: DataRef, monkeypatch: Any
) -> None:
    engine = Means()
    runner = CheckedRunner(engine, BatchProfile(min=smallest, opt=32, max=32))
    monkeypatch.setattr(embedding, "backend_for", lambda _target: SimpleNamespace(runner=lambda *_: runner))
    preprocess = prepared.checked.preprocess
    made = embed(prepared.snapshot, preprocess, data, "image", "fp16", "engine", preprocess, size)
    keys, array = load(in_store, made)
    assert engine.batches == batches
    assert (keys, made.rows) == (list(range(20)), 20)
    processor = Preprocess(in_store.path(preprocess), family_named("clip"), prepared.snapshot.config)
    pictures = [processor.image(data.open().image(index)) for index in range(20)]
    expected = [picture.astype(np.float16).astype(np.float32).mean(axis=(1, 2)) for picture in pictures]
    np.testing.assert_allclose(array, expected, atol=1e-6)
