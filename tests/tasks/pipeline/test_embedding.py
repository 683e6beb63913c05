"""Kept outputs are those of the model on the evaluation set, row by row."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from artifacts.errors import BadSample, NumericError
from artifacts.store.store import Store
from tasks.checkpoints.preprocess import Preprocess
from tasks.data import picture_spool
from tasks.data.batches import stream_pictures
from tasks.data.pinned import DataRef, pin_data
from tasks.data.texts import evaluation_texts, prompts_of
from tasks.data.webdataset import WebDataset
from tasks.engines import BatchProfile
from tasks.engines.checked import CheckedRunner
from tasks.evaluation import embedding_chunks
from tasks.evaluation.question import task_of
from tasks.evaluation.scoring import Retrieval
from tasks.families import family_named
from tasks.pipeline import embedding
from tasks.pipeline.embedding import Embeddings, embed
from tests.tasks.data.support import captioned, labelled, noise, png, retrieval, zero_shot
from tests.wording import refusal

pytestmark = pytest.mark.usefixtures("in_store")


@pytest.fixture(autouse=True)
def _pictures_go(in_store: Store) -> Iterator[None]:
    """What was kept of pictures, which nobody discards who calls the step by hand."""
    yield
    shutil.rmtree(in_store.root / "cache" / "partial", ignore_errors=True)


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


class Rounding:
    """An engine that gives no two rows alike, whatever they are of."""

    name = "fp8 rounding"

    def __init__(self) -> None:
        self.rows = 0

    def __enter__(self) -> Rounding:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def infer(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        first, self.rows = self.rows, self.rows + len(feed["input_ids"])
        return {"text_embeds": np.arange(first, self.rows, dtype=np.float32)[:, None] + np.ones((1, 4), np.float32)}


def folder_of(folder: Path, captions: list[str]) -> DataRef:
    """A picture of its own for each caption."""
    for number in range(len(captions)):
        Image.new("RGB", (32, 32), (30 * number, 0, 0)).save(folder / f"{number}.png")
    rows = [f"{number}.png,{caption}" for number, caption in enumerate(captions)]
    (folder / "captions.csv").write_text("\n".join(["file,caption", *rows]) + "\n")
    return pin_data(str(folder), "evaluation", None)[0]


def test_texts_of_the_same_tokens_have_the_same_row(
    prepared: Any, in_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: rounding, which differs from batch to batch, is not to tell them apart."""
    monkeypatch.setattr(embedding, "_torch_runner", lambda *_: Rounding())
    captions = ["The digit ONE", "a seven", "the digit one", "A seven", "the  digit one", "a nine"]
    folder = folder_of(tmp_path, [captions[number % 6] for number in range(8)])
    made = run(prepared, folder, "text", 2)
    keys, array = load(in_store, made)
    assert (keys, made.rows) == (captions, 6)
    assert array[:, 0].tolist() == [1, 2, 1, 2, 1, 3]


def test_texts_are_tokenized_once(prepared: Any, data: DataRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in blocks, which do not show in the batches."""
    expected = run(prepared, data, "text", 7)
    asked: list[str] = []
    real = Preprocess._tokens_and_mask
    monkeypatch.setattr(Preprocess, "_tokens_and_mask", lambda self, texts: (asked.extend(texts), real(self, texts))[1])
    monkeypatch.setattr(embedding, "TEXTS_AT_A_TIME", 5)
    made = run(prepared, data, "text", 7)
    assert asked == evaluation_texts(data.open())
    assert made.outputs == expected.outputs
    asked.clear()
    run(prepared, data, "image")
    assert asked == []


def test_texts_longer_than_the_context_are_counted(
    prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_torch_runner", lambda *_: Rounding())
    monkeypatch.setattr(embedding, "TEXTS_AT_A_TIME", 3)
    folder = folder_of(tmp_path, ["seven " * (1 + 4 * number) for number in range(8)])
    made = run(prepared, folder, "text", 2)
    texts = evaluation_texts(folder.open())
    assert made.truncated == Preprocess.of(prepared.snapshot, prepared.checked.preprocess).truncated(texts) > 3


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
    with refusal(NumericError, "first sample: 16") as caught:
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
    monkeypatch.setattr(embedding, "backend_for", lambda _target: SimpleNamespace(runner=lambda *_: runner, device=str))
    preprocess = prepared.checked.preprocess
    made = embed(prepared.snapshot, preprocess, data, "image", "fp16", "engine", preprocess, size)
    keys, array = load(in_store, made)
    assert engine.batches == batches
    assert (keys, made.rows) == (list(range(20)), 20)
    processor = Preprocess(in_store.path(preprocess), family_named("clip"), prepared.snapshot.config)
    pictures = [processor.image(data.open().image(index)) for index in range(20)]
    expected = [picture.astype(np.float16).astype(np.float32).mean(axis=(1, 2)) for picture in pictures]
    np.testing.assert_allclose(array, expected, atol=1e-6)


# --- chunks --------------------------------------------------------------------------------------------------


class Slow(Means):
    """Takes its time, so that it can be killed."""

    def infer(self, feed: dict[str, np.ndarray], **_: object) -> dict[str, np.ndarray]:
        time.sleep(0.05)
        return super().infer(feed)


def chunk_files(store: Store) -> list[Path]:
    """Those of embeddings, not of pictures."""
    return sorted(path for path in store.root.glob("cache/partial/*/*-*") if path.read_bytes().startswith(b"PK"))


@pytest.fixture
def shards(tmp_path: Path) -> DataRef:
    """40 pictures in two shards, one of which cannot be decoded: a share that is tolerated here."""
    pictures = [noise(n) for n in range(40)]
    pictures[5] = pictures[5][:50]
    for faint in (2, 30, 39):
        pictures[faint] = png(np.full((8, 8, 3), faint, np.uint8))
    labels = [n % 2 for n in range(40)]
    folder = zero_shot(
        tmp_path / "set", [labelled(pictures[:30], labels[:30]), labelled(pictures[30:], labels[30:], 30)]
    )
    return pin_data(str(folder), "evaluation", None)[0]


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pictures of shards that are decoded from now on."""
    decoded: list[int] = []
    real = WebDataset.image
    monkeypatch.setattr(WebDataset, "image", lambda self, index: (decoded.append(index), real(self, index))[1])
    return decoded


def test_each_picture_is_decoded_once_for_all_precisions(
    prepared: Any, in_store: Store, shards: DataRef, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embedding, "_torch_runner", lambda *_: Means())
    monkeypatch.setattr(
        embedding, "backend_for", lambda _: SimpleNamespace(runner=lambda *_: CheckedRunner(Means(), None), device=str)
    )
    monkeypatch.setattr(embedding, "stream_pictures", partial(stream_pictures, max_bad_share=0.05))
    decoded, preprocess = count_decoded(monkeypatch), prepared.checked.preprocess
    made = [run(prepared, shards, "image", 4)]
    for precision, size in (("fp16", 5), ("fp8", 16)):
        engine = (precision, "engine", preprocess, size)
        made.append(embed(prepared.snapshot, preprocess, shards, "image", *engine))  # type: ignore[arg-type]
    assert sorted(decoded) == list(range(40))
    assert [(m.rows, m.skipped, m.faint) for m in made] == [(39, 1, 3)] * 3
    assert [record.message.split(":")[0] for record in caplog.records] == ["sample s0000005 is left out"]
    processor = Preprocess.of(prepared.snapshot, preprocess)
    expected = [processor.image(shards.open().image(index)) for index in range(40) if index != 5]
    exact, *halves = (load(in_store, m)[1] for m in made)
    np.testing.assert_array_equal(exact, np.stack(expected).mean(axis=(2, 3)))
    for half in halves:
        np.testing.assert_array_equal(half, np.stack(expected).astype(np.float16).astype(np.float32).mean(axis=(2, 3)))


def test_a_run_that_was_killed_is_gone_on_with(
    prepared: Any, in_store: Store, shards: DataRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_chunks, "CHUNK_ROWS", 8)
    monkeypatch.setattr(picture_spool, "CHUNK", 4)
    monkeypatch.setattr(embedding, "_torch_runner", lambda *_: Slow())
    tolerant = partial(stream_pictures, max_bad_share=0.05)
    monkeypatch.setattr(embedding, "stream_pictures", tolerant)
    child = multiprocessing.get_context("fork").Process(target=run, args=(prepared, shards, "image", 4))
    child.start()
    deadline = time.monotonic() + 60
    while len(chunk_files(in_store)) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    kept = len(chunk_files(in_store))
    assert 2 <= kept < 5
    pictures = len(list(in_store.root.glob("cache/partial/*/*-*"))) - kept
    assert 8 * kept + 1 <= 4 * pictures < 40  # a chunk ends with the ninth picture, as the sixth is broken
    decoded = count_decoded(monkeypatch)
    engine = Means()
    monkeypatch.setattr(embedding, "_torch_runner", lambda *_: engine)
    made = run(prepared, shards, "image", 4)
    assert sorted(decoded) == list(range(4 * pictures, 40))
    assert sum(engine.batches) == 39 - 8 * kept
    assert (made.rows, made.skipped, made.faint) == (39, 1, 3)
    assert chunk_files(in_store) == []
    decoded.clear()
    assert run(prepared, shards, "image", 4).outputs == made.outputs
    assert decoded == []
    keys, array = load(in_store, made)
    assert keys == [n for n in range(40) if n != 5]
    processor = Preprocess(in_store.path(prepared.checked.preprocess), family_named("clip"), prepared.snapshot.config)
    dataset = shards.open()
    expected = [processor.image(dataset.image(index)).mean(axis=(1, 2)) for index in keys]
    np.testing.assert_allclose(array, expected, atol=1e-6)
    header = io.BytesIO()
    np.save(header, array)
    assert (in_store.path(made.outputs) / "embeddings.npy").read_bytes() == header.getvalue()


def test_too_many_bad_samples_are_counted_over_both_runs(
    prepared: Any, in_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [noise(n) if n not in (3, 30) else b"broken" for n in range(40)]
    folder = zero_shot(tmp_path / "set", [labelled(pictures, [n % 2 for n in range(40)])])
    data = pin_data(str(folder), "evaluation", None)[0]
    monkeypatch.setattr(embedding_chunks, "CHUNK_ROWS", 8)
    monkeypatch.setattr(embedding, "_torch_runner", lambda *_: Means())
    monkeypatch.setattr(embedding, "stream_pictures", partial(stream_pictures, max_bad_share=0.03))
    for _ in range(2):
        with pytest.raises(BadSample, match="2 of 40 samples"):
            run(prepared, data, "image", 4)
        assert chunk_files(in_store)
    shutil.rmtree(in_store.root / "cache" / "partial")


def test_a_damaged_chunk_is_made_again(
    prepared: Any, in_store: Store, data: DataRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Means):
        def infer(self, feed: dict[str, np.ndarray], **_: object) -> dict[str, np.ndarray]:
            if len(self.batches) == 4:
                raise OSError("the machine went away")
            return super().infer(feed)

    monkeypatch.setattr(embedding_chunks, "CHUNK_ROWS", 4)
    whole, engine = Means(), Means()
    monkeypatch.setattr(embedding, "_torch_runner", lambda *_: whole)
    expected = run(prepared, data, "image", 4).outputs
    monkeypatch.setattr(embedding, "_torch_runner", lambda *_: Failing())
    with pytest.raises(OSError, match="went away"):
        run(prepared, data, "image", 4)
    assert len(chunk_files(in_store)) == 4
    second = chunk_files(in_store)[1]
    second.chmod(0o600)
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(embedding, "_torch_runner", lambda *_: engine)
    assert run(prepared, data, "image", 4).outputs == expected
    assert engine.batches == [4, 4, 4, 4]  # all but the first of five


def test_pictures_with_several_captions_are_embedded_once(
    prepared: Any, in_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"one of {n}\ntwo of {n}" for n in range(9)]
    folder = retrieval(tmp_path / "set", [captioned([noise(n) for n in range(9)], texts)])
    data = pin_data(str(folder), "evaluation", None)[0]
    monkeypatch.setattr(embedding, "_torch_runner", lambda *_: Means())
    made = run(prepared, data, "image", 4)
    assert (data.samples, made.rows, made.skipped) == (18, 9, 0)
    assert load(in_store, made)[0] == list(range(0, 18, 2))
    task = task_of(data.open(), list(range(0, 18, 2)))
    assert isinstance(task, Retrieval)
    np.testing.assert_array_equal(task.relevant.rows(0, 9), np.kron(np.eye(9), np.ones((1, 2))).astype(bool))
