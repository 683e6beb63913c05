"""Step 7a: the evaluation set through one runtime: FP32 PyTorch, an ONNX file or an engine, by a Polygraphy runner.

Outputs are kept, so that accuracy can be judged again without running anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import NumericError
from artifacts.manifest import Encoder
from artifacts.refs import ArtifactRef
from artifacts.store import active_store
from tasks.clip import MASK, family_named
from tasks.data import Dataset
from tasks.data.batches import stream_batches
from tasks.data.templates import fill
from tasks.datasource import DataRef
from tasks.engines import backend_for
from tasks.engines.checked import filled
from tasks.engines.onnx_runtime import cpu_name
from tasks.preprocess import Preprocess
from tasks.snapshot import Snapshot
from tasks.steps import StepOutput, cached_step, measured

if TYPE_CHECKING:
    from polygraphy.backend.base import BaseRunner

REFERENCE = "pytorch"
EMBEDDINGS_FILE = "embeddings.npy"
KEYS_FILE = "keys.json"


class Embeddings(StepOutput):
    """What one runtime made of the evaluation set.

    `outputs` holds `embeddings.npy` (float32, (n, embedding_dim), not normalised) and `keys.json`: the sample indices
    (image) or the texts (text) of its rows. `truncated` counts texts longer than the context.
    """

    encoder: Encoder
    precision: Literal["fp32", "fp16", "fp8"]
    target: str
    outputs: ArtifactRef
    rows: int
    skipped: int
    truncated: int


def evaluation_texts(dataset: Dataset) -> list[str]:
    """Every distinct text that evaluation needs: class prompts first, then captions, in order of appearance."""
    return list(dict.fromkeys([*prompts_of(dataset), *(sample.caption for sample in dataset.samples)]))


def prompts_of(dataset: Dataset) -> list[str]:
    """All classes times all templates, class by class; empty without classes."""
    if dataset.classes is None:
        return []
    return [fill(template, name) for name in dataset.classes.names for template in dataset.classes.templates]


def batch_and_device(target: str, batch: int, largest: int) -> tuple[int, str]:
    """The batch size and the device of a run of `embed`: an engine takes `largest` at most, all else runs on the CPU.

    Both are part of the step's cache key.
    """
    if target in (REFERENCE, "onnxruntime"):
        return batch, cpu_name()
    return min(batch, largest), backend_for(target).device()


def embed(
    snapshot: Snapshot,
    preprocess: ArtifactRef,
    data: DataRef,
    encoder: Encoder,
    precision: Literal["fp32", "fp16", "fp8"],
    target: str,
    engine: ArtifactRef | None,
    batch_size: int,
) -> Embeddings:
    """Run the evaluation set through `engine` on `target`, or through FP32 PyTorch when `target` is "pytorch".

    Raises:
        NumericError: an output is NaN or Inf.
        BadSample: too many samples cannot be decoded.
    """
    with measured() as meter:
        store = active_store()
        dataset = data.open()
        processor = Preprocess(store.path(preprocess), family_named(snapshot.family), snapshot.config)
        smallest = 1
        if engine is None:
            runner: BaseRunner = _torch_runner(snapshot, encoder)
        else:
            runner = backend_for(target).runner(store.path(engine, engine.files[0].path), f"{precision} {target}")
            smallest = runner.smallest
        texts = evaluation_texts(dataset)
        feeds = (
            _image_feeds(dataset, processor, batch_size)
            if encoder == "image"
            else _text_feeds(texts, processor, batch_size)
        )
        total = len(dataset.samples if encoder == "image" else texts)
        keys, rows = _run(runner, feeds, encoder, precision, total, smallest)
        outputs = _keep(keys, rows)
    return Embeddings(
        encoder=encoder,
        precision=precision,
        target=target,
        outputs=outputs,
        rows=len(keys),
        skipped=len(dataset.samples) - len(keys) if encoder == "image" else 0,
        truncated=processor.truncated(texts) if encoder == "text" else 0,
        stats=meter.stats,
    )


Feed = tuple[list[Any], dict[str, NDArray[Any]]]


def _image_feeds(dataset: Dataset, processor: Preprocess, size: int) -> Iterator[Feed]:
    for batch in stream_batches(dataset, processor, size):
        yield list(batch.indices), {"pixel_values": batch.pixel_values}


def _text_feeds(texts: list[str], processor: Preprocess, size: int) -> Iterator[Feed]:
    for start in range(0, len(texts), size):
        chunk = texts[start : start + size]
        tokens, mask = processor.text(chunk)
        yield list(chunk), {"input_ids": tokens} | ({} if mask is None else {MASK: mask})


def _run(
    runner: Any, feeds: Iterator[Feed], encoder: Encoder, precision: str, total: int, smallest: int
) -> tuple[list[Any], NDArray[np.float32]]:
    from tqdm import tqdm

    keys: list[Any] = []
    rows: list[NDArray[np.float32]] = []
    with runner, tqdm(total=total, desc=f"evaluate {encoder} {precision}", unit="sample", disable=None) as bar:
        for names, feed in feeds:
            if precision != "fp32":
                feed = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in feed.items()}
            (output,) = runner.infer({name: filled(array, smallest) for name, array in feed.items()}).values()
            rows.append(np.array(output[: len(names)], dtype=np.float32))
            keys += names
            bar.update(len(names))
    embeddings = np.concatenate(rows)
    bad = int((~np.isfinite(embeddings)).any(axis=1).sum())
    if bad:
        raise NumericError(
            f"{bad} of {len(embeddings)} {encoder} embeddings of {runner.name} are NaN or Inf",
            where=f"first sample: {keys[int((~np.isfinite(embeddings)).any(axis=1).argmax())]!r}",
            expected="finite embeddings",
            fix="the FP16 range is too small for this model, or the calibration is off: see the coverage table",
        )
    return keys, embeddings


def _keep(keys: list[Any], rows: NDArray[np.float32]) -> ArtifactRef:
    store = active_store()
    with store.staging() as folder:
        np.save(folder / EMBEDDINGS_FILE, rows)
        (folder / KEYS_FILE).write_text(json.dumps(keys, ensure_ascii=False), encoding="utf-8")
        return store.add("embeddings", folder)


def _torch_runner(snapshot: Snapshot, encoder: Encoder) -> BaseRunner:
    """FP32 PyTorch as a Polygraphy runner."""
    from tasks.modelopt import load_plain
    from tasks.torch_runner import TorchRunner

    model, family = load_plain(snapshot, "sdpa")
    return TorchRunner(model, family, family.encoder_spec(snapshot.config, encoder))


@cached_step(
    "embed",
    version=1,
    packages=("torch", "transformers", "tokenizers", "numpy", "pillow", "onnxruntime", "tensorrt", "tensorrt-rtx"),
)
def embed_task(
    snapshot: Snapshot,
    preprocess: ArtifactRef,
    data: DataRef,
    encoder: Encoder,
    precision: Literal["fp32", "fp16", "fp8"],
    target: str,
    engine: ArtifactRef | None,
    batch_size: int,
    device: str,
) -> Embeddings:
    """`device` is what runs the engine: part of the cache key."""
    del device
    return embed(snapshot, preprocess, data, encoder, precision, target, engine, batch_size)
