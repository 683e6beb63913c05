"""Step 7a: embed the evaluation set with one runtime: FP32 PyTorch, an ONNX file or an engine, as a Polygraphy runner.

The embeddings are kept, so that accuracy can be judged again without running anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import NumericError
from artifacts.manifest import Encoder
from artifacts.refs import ArtifactRef
from artifacts.store.store import active_store
from artifacts.store.unfinished import Partial
from tasks.checkpoints.preprocess import TEXTS_AT_A_TIME, Preprocess
from tasks.checkpoints.snapshot import Snapshot
from tasks.data.batches import Done, stream_pictures
from tasks.data.picture_spool import PictureSpool
from tasks.data.pictures import Selected, picture_places
from tasks.data.pinned import DataRef
from tasks.data.texts import evaluation_texts
from tasks.device.gpu import torch_gpu
from tasks.engines import backend_for
from tasks.engines.checked import CheckedRunner, filled, halved
from tasks.engines.onnx_runtime import cpu_name
from tasks.evaluation.embedding_chunks import EmbeddingChunks
from tasks.evaluation.executors import Executor, gpu_batch
from tasks.evaluation.kept_embeddings import EMBEDDINGS_FILE, KEYS_FILE, REFERENCE
from tasks.pipeline.gpu_room import gpu_room
from tasks.quantizing.calibration_feed import made_ahead
from tasks.runs.progress import progress
from tasks.runs.steps import Meter, StepOutput, cached_step, measured, step_key

if TYPE_CHECKING:
    from polygraphy.backend.base import BaseRunner

_STEP, _VERSION = "embed", 8
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pillow", "onnxruntime", "tensorrt", "tensorrt-rtx")


class Embeddings(StepOutput):
    """One runtime's embeddings of the evaluation set.

    `outputs` holds `embeddings.npy` (float32, (n, embedding_dim), not normalised) and `keys.json`: the sample indices
    (image) or the texts (text) of its rows. A picture with several captions has one row, that of its first sample;
    texts that become the same tokens have equal rows.
    `skipped` counts pictures that could not be decoded, `truncated` texts longer than the context, and `faint` pictures
    with next to no contrast.
    """

    encoder: Encoder
    precision: Literal["fp32", "fp16", "fp8"]
    target: str
    outputs: ArtifactRef
    rows: int
    skipped: int
    truncated: int
    faint: int = 0


def batch_and_device(
    target: str, batch: int, largest: int, executor: Executor = "onnxruntime"
) -> tuple[int, str, Executor]:
    """How `embed` runs: (batch size, device, executor), all part of the step's cache key.

    An engine takes batches of at most `largest` and needs no executor. FP32 and graphs run on the CPU, unless
    `executor` is "torch" and there is a GPU, which then gets larger batches.
    """
    if target not in (REFERENCE, "onnxruntime"):
        return min(batch, largest), backend_for(target).device(), "onnxruntime"
    if executor == "torch" and (gpu := torch_gpu()) is not None:
        return gpu_batch(batch), gpu, executor
    return batch, cpu_name(), "onnxruntime" if target == REFERENCE else executor


def embed(
    snapshot: Snapshot,
    preprocess: ArtifactRef,
    data: DataRef,
    encoder: Encoder,
    precision: Literal["fp32", "fp16", "fp8"],
    target: str,
    engine: ArtifactRef | None,
    batch_size: int,
    executor: Executor = "onnxruntime",
) -> Embeddings:
    """Run the evaluation set through `engine` on `target`, or through FP32 PyTorch when `target` is "pytorch".

    With `executor` "torch", PyTorch also executes ONNX graphs (`target` "onnxruntime"), and both use a GPU if there is
    one.

    Rows are written to disk as they are made: a killed run can be continued, and memory does not grow with the set.
    Preprocessed pictures are kept on disk for later calls; the wiring discards them at the end.

    Raises:
        NumericError: an output is NaN or Inf.
        BadSample: too many samples cannot be decoded.
    """
    with measured() as meter:
        store = active_store()
        dataset = data.open()
        processor = Preprocess.of(snapshot, preprocess)
        smallest = 1
        device = "cuda" if executor == "torch" and torch_gpu() is not None else "cpu"
        if engine is None:
            runner: BaseRunner = _torch_runner(snapshot, encoder, device)
        elif executor == "torch" and target == "onnxruntime":
            runner = _graph_executor(store.path(engine, engine.files[0].path), f"{precision} {target}", device)
        else:
            runner = backend_for(target).runner(store.path(engine, engine.files[0].path), f"{precision} {target}")
            smallest = runner.smallest
        pictures = Selected(dataset, picture_places(dataset))
        texts = _Texts(evaluation_texts(dataset) if encoder == "text" else [], processor)
        total = len(pictures.places if encoder == "image" else texts.all)
        where = batch_and_device(target, batch_size, batch_size, executor)
        inputs = (snapshot, preprocess, data, encoder, precision, target, engine, *where)
        chunks = EmbeddingChunks(Partial(store, step_key(_STEP, _VERSION, _PACKAGES, {"inputs": list(inputs)})))
        feeds: Generator[_Feed]
        if encoder == "image":
            spool = PictureSpool(preprocess, data, pictures, processor)
            feeds = _image_feeds(pictures, processor, batch_size, chunks, spool)
        else:
            feeds = texts.feeds(batch_size, chunks.done)
        meter.on("cpu" if where[1] == cpu_name() else where[1])
        _run(runner, feeds, _Work(encoder, precision, target, total, smallest), chunks, meter)
        outputs = _keep(chunks, runner.name, encoder, texts)
    return Embeddings(
        encoder=encoder,
        precision=precision,
        target=target,
        outputs=outputs,
        rows=chunks.count if encoder == "image" else total,
        skipped=total - chunks.count if encoder == "image" else 0,
        truncated=texts.truncated,
        faint=chunks.faint,
        stats=meter.stats,
    )


class _Feed(NamedTuple):
    """One batch: the keys of its rows, the model's inputs, how many samples or texts are done after it, and how many of
    its pictures have next to no contrast."""

    keys: list[Any]
    inputs: dict[str, NDArray[Any]]
    done: int
    faint: int = 0


class _Work(NamedTuple):
    """What is run, for messages and progress; `smallest` is the smallest batch that the engine takes."""

    encoder: Encoder
    precision: str
    target: str
    total: int
    smallest: int


def _image_feeds(
    pictures: Selected, processor: Preprocess, size: int, chunks: EmbeddingChunks, spool: PictureSpool
) -> Generator[_Feed]:
    done = Done(chunks.done, chunks.done - chunks.count)
    for batch in stream_pictures(pictures, processor, size, done=done, keeper=spool):
        keys = [pictures.places[index] for index in batch.indices]
        yield _Feed(keys, {"pixel_values": batch.pixel_values}, batch.indices[-1] + 1, batch.faint)


class _Texts:
    """The texts of a set, tokenized once, while they are embedded; texts that become the same tokens are embedded once.

    After the last feed, `row_of` maps each text to the row of its tokens, and `truncated` is the number of texts that
    were longer than the context.
    """

    def __init__(self, texts: list[str], processor: Preprocess) -> None:
        self.all = texts
        self.row_of: list[int] = []
        self.truncated = 0
        self._processor = processor

    def feeds(self, size: int, done: int) -> Generator[_Feed]:
        """The different token sequences in batches of `size`, after the first `done` of them."""
        different = islice(self._different(), done, None)
        while part := list(islice(different, size)):
            done += len(part)
            inputs = {name: np.stack([rows[name] for _, rows in part]) for name in part[0][1]}
            yield _Feed([text for text, _ in part], inputs, done)

    def _different(self) -> Iterator[tuple[str, dict[str, NDArray[np.int64]]]]:
        """Each text whose tokens differ from those of all earlier texts, with its row of each input."""
        row_of: dict[bytes, int] = {}
        for start in range(0, len(self.all), TEXTS_AT_A_TIME):
            part = self.all[start : start + TEXTS_AT_A_TIME]
            inputs, truncated = self._processor.counted_inputs(part)
            self.truncated += truncated
            for place, text in enumerate(part):
                known = len(row_of)
                tokens = hashlib.sha256(inputs["input_ids"][place].tobytes()).digest()
                self.row_of.append(row_of.setdefault(tokens, known))
                if len(row_of) > known:
                    yield text, {name: rows[place] for name, rows in inputs.items()}


def _run(runner: Any, feeds: Generator[_Feed], work: _Work, chunks: EmbeddingChunks, meter: Meter) -> None:
    """Run the batches of `feeds` (those that `chunks` do not hold yet), and add their rows to `chunks`."""
    label = f"{work.encoder} {work.precision} {work.target}"
    key = "clipsmith-progress-embed-" + label.replace(" ", "-")
    with (
        runner,
        made_ahead(feeds) as made,
        made_ahead(_as_the_graph_takes_them(made, work.precision)) as prepared,
        progress(key, work.total, "sample", f"evaluate {label}", chunks.done) as advance,
    ):
        for feed in meter.fed(prepared, lambda feed: len(feed.keys)):
            inputs = feed.inputs
            (output,) = runner.infer({name: filled(array, work.smallest) for name, array in inputs.items()}).values()
            before = chunks.done
            chunks.add(feed.keys, np.array(output[: len(feed.keys)], dtype=np.float32), feed.done, feed.faint)
            advance(feed.done - before)
        if chunks.done < work.total:  # the last samples were bad pictures, or texts of equal tokens
            advance(work.total - chunks.done)
    chunks.flush()


def _as_the_graph_takes_them(feeds: Iterator[_Feed], precision: str) -> Generator[_Feed]:
    """The batches with inputs in the graph's dtype, prepared in a thread ahead of the device."""
    for feed in feeds:
        yield feed if precision == "fp32" else feed._replace(inputs=halved(feed.inputs))


def _keep(chunks: EmbeddingChunks, runner: str, encoder: Encoder, texts: _Texts) -> ArtifactRef:
    """Add all rows to the store as one object, and remove the chunks.

    In chunks, texts of equal tokens share one row; in the object each text has its own copy.

    Raises:
        NumericError: a row is NaN or Inf.
    """
    _require_finite(chunks, runner, encoder)
    store = active_store()
    with store.staging() as folder:
        chunks.write(folder / EMBEDDINGS_FILE, folder / KEYS_FILE)
        if encoder == "text" and chunks.count < len(texts.all):
            np.save(folder / EMBEDDINGS_FILE, np.load(folder / EMBEDDINGS_FILE)[texts.row_of])
            (folder / KEYS_FILE).write_text(json.dumps(texts.all, ensure_ascii=False), encoding="utf-8")
        outputs = store.add("embeddings", folder)
    chunks.discard()
    return outputs


def _require_finite(chunks: EmbeddingChunks, runner: str, encoder: Encoder) -> None:
    bad = [
        key for chunk in chunks for key, row in zip(chunk.keys, chunk.rows, strict=True) if not np.isfinite(row).all()
    ]
    if bad:
        chunks.discard()  # or the next run would reuse them although the cause may be gone
        raise NumericError(
            f"{len(bad)} of {chunks.count} {encoder} embeddings of {runner} are NaN or Inf",
            where=f"first sample: {bad[0]!r}",
            expected="finite embeddings",
            fix="the FP16 range is too small for this model, or the calibration is off: see the coverage table",
        )


def _torch_runner(snapshot: Snapshot, encoder: Encoder, device: str) -> BaseRunner:
    """FP32 PyTorch as a Polygraphy runner."""
    from tasks.quantizing.modelopt import load_plain
    from tasks.quantizing.torch_runner import TorchRunner

    model, family = load_plain(snapshot, "sdpa")
    return TorchRunner(model, family, family.encoder_spec(snapshot.config, encoder), device)


def _graph_executor(graph: Path, name: str, device: str) -> Any:
    """A graph in PyTorch as a Polygraphy runner that checks its inputs."""
    from tasks.engines.graph_executor import GraphExecutor

    return CheckedRunner(GraphExecutor(graph, name, device), None)


@cached_step(_STEP, version=_VERSION, packages=_PACKAGES)
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
    executor: Executor,
) -> Embeddings:
    """`device` is what runs the engine; it is part of the cache key."""
    with gpu_room(snapshot, encoder, batch_size, device):
        return embed(snapshot, preprocess, data, encoder, precision, target, engine, batch_size, executor)
