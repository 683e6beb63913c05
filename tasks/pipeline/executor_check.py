"""Step 7a': compare PyTorch with ONNX Runtime on samples, for graphs that PyTorch executes in ONNX Runtime's place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from artifacts.manifest import Encoder
from artifacts.refs import ArtifactRef
from artifacts.store.store import active_store
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import Snapshot
from tasks.data.batches import stream_pictures
from tasks.data.pictures import Selected, picture_places
from tasks.data.pinned import DataRef
from tasks.data.texts import evaluation_texts
from tasks.device.gpu import torch_gpu
from tasks.engines.checked import halved
from tasks.pipeline.gpu_room import gpu_room
from tasks.pipeline.kept import keep
from tasks.runs.steps import StepOutput, cached_step, measured

SAMPLES = 64
_SEED = 0
_BATCH = 8


class JudgedExecutor(StepOutput):
    """How far PyTorch and ONNX Runtime agree on one graph.

    `table` holds `layers.parquet` (tensor, snr_db), in the graph's order; `layer` and `snr_db` are the worst row.
    `cosine_min` is the smallest cosine of a sample's two embeddings, end to end.
    """

    encoder: Encoder
    precision: str
    device: str
    table: ArtifactRef
    samples: int
    layer: str
    snr_db: float
    cosine_min: float


def check_executor(
    snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef, encoder: Encoder, precision: str, onnx: ArtifactRef
) -> JudgedExecutor:
    """Run `SAMPLES` pictures or texts, drawn by seed, through ONNX Runtime and through PyTorch.

    Raises:
        ExecutorsDisagree: they differ by more than `tasks.evaluation.judge` allows.
    """
    import pandas as pd

    from tasks.evaluation.judge import judge

    with measured() as meter:
        feeds = list(_feeds(data, Preprocess.of(snapshot, preprocess), encoder))
        gpu = torch_gpu()
        device = "cpu" if gpu is None else "cuda"
        meter.on(gpu or "cpu")
        verdict = judge(active_store().path(onnx, onnx.files[0].path), precision, feeds, device)
        layers = pd.DataFrame({"tensor": list(verdict.layers), "snr_db": list(verdict.layers.values())})
        table = keep("executor-check", {"layers.parquet": layers})
    layer, ratio = verdict.worst_layer
    return JudgedExecutor(
        encoder=encoder,
        precision=precision,
        device=gpu or "cpu",
        table=table,
        samples=len(verdict.cosines),
        layer=layer,
        snr_db=ratio,
        cosine_min=float(verdict.cosines.min()),
        stats=meter.stats,
    )


def _feeds(data: DataRef, processor: Preprocess, encoder: Encoder) -> Iterator[dict[str, np.ndarray]]:
    dataset, drawn = data.open(), np.random.default_rng(_SEED)
    if encoder == "image":
        places = picture_places(dataset)
        chosen = [places[place] for place in _some(drawn, len(places))]
        for batch in stream_pictures(Selected(dataset, chosen), processor, _BATCH, max_bad_share=1):
            yield halved({"pixel_values": batch.pixel_values})
        return
    texts = evaluation_texts(dataset)
    chosen_texts = [texts[place] for place in _some(drawn, len(texts))]
    for start in range(0, len(chosen_texts), _BATCH):
        yield processor.text_inputs(chosen_texts[start : start + _BATCH])


def _some(drawn: np.random.Generator, count: int) -> list[int]:
    return sorted(drawn.choice(count, min(SAMPLES, count), replace=False).tolist())


@cached_step("judge", version=1, packages=("torch", "onnxruntime", "numpy", "pillow", "transformers", "tokenizers"))
def judge_task(
    snapshot: Snapshot,
    preprocess: ArtifactRef,
    data: DataRef,
    encoder: Encoder,
    precision: str,
    onnx: ArtifactRef,
    device: str,
) -> JudgedExecutor:
    """`device` is what PyTorch runs on; it is part of the cache key."""
    with gpu_room(snapshot, encoder, _BATCH, device):
        return check_executor(snapshot, preprocess, data, encoder, precision, onnx)
