"""Step 2: calibration data -> per-quantizer amax, with the evidence that the data sufficed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from artifacts.manifest import Encoder
from artifacts.refs import ArtifactRef
from artifacts.store import active_store
from tasks.data.batches import Batch, stream_batches
from tasks.datasource import DataRef
from tasks.modelopt import PACKAGES, enabled_quantizers, insert_quantizers, load_exposed, read_amax
from tasks.preprocess import Preprocess
from tasks.recipe import Recipe
from tasks.snapshot import AMAX_FILE, Snapshot
from tasks.steps import StepOutput, cached_step, measured

if TYPE_CHECKING:
    from torch import nn

    from tasks.clip import ClipFamily, EncoderSpec

MIN_BATCHES = 4
"""Small sets are split into at least this many batches, so that there is a convergence curve to look at."""


class Calibration(StepOutput):
    """The amax of one encoder's quantizers.

    `table` holds `amax.parquet` (quantizer, amax), `convergence.parquet` (quantizer, samples, amax: the running
    maximum), `saturation.parquet` (quantizer, share: of the last batch's values beyond the amax of all batches before
    it, an estimate of what unseen data will saturate) and `samples.parquet` (id, image_hash, caption).
    """

    encoder: Encoder
    table: ArtifactRef
    samples: int
    skipped: int
    truncated: int
    quantizers: int


def calibrate(
    snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef, recipe: Recipe, encoder: Encoder, batch_size: int
) -> Calibration:
    """Run the encoder over the samples with ModelOpt's max calibration.

    Raises:
        BadAmax: a quantizer's amax is zero, NaN, infinite or missing.
        BadSample: too many samples cannot be decoded.
    """
    with measured() as meter:
        store = active_store()
        dataset = data.open()
        model, family = load_exposed(snapshot)
        spec = family.encoder_spec(snapshot.config, encoder)
        size = min(batch_size, math.ceil(len(dataset.samples) / MIN_BATCHES))
        processor = Preprocess(store.path(preprocess), family, snapshot.config)
        captions = [sample.caption for sample in dataset.samples]
        batches = (
            stream_batches(dataset, processor, size) if encoder == "image" else _captions(captions, processor, size)
        )
        watch = _Watch(spec, len(dataset.samples))
        insert_quantizers(model, snapshot, recipe, (encoder,), lambda quantized: watch.run(quantized, family, batches))
        amax = {name: value for name, value in read_amax(model, recipe).items() if name.startswith(spec.prefixes)}
        table = _keep(amax, watch, dataset.samples)
    return Calibration(
        encoder=encoder,
        table=table,
        samples=watch.seen,
        skipped=len(dataset.samples) - watch.seen,
        truncated=processor.truncated(captions) if encoder == "text" else 0,
        quantizers=len(amax),
        stats=meter.stats,
    )


def _captions(captions: list[str], processor: Preprocess, size: int) -> Iterator[Batch]:
    """Token batches alone: a text encoder is calibrated without decoding a single picture."""
    for start in range(0, len(captions), size):
        indices = list(range(start, min(start + size, len(captions))))
        tokens, mask = processor.text([captions[index] for index in indices])
        yield Batch(indices, np.empty((len(indices), 0, 0, 0), np.float32), tokens, mask)


class _Watch:
    """Feeds the batches to the model and records how each quantizer's running maximum develops."""

    def __init__(self, spec: EncoderSpec, total: int) -> None:
        self.spec = spec
        self.total = total
        self.seen = 0
        self.used: list[int] = []
        self.curve: list[dict[str, Any]] = []
        self.saturation: dict[str, float] = {}

    def run(self, model: nn.Module, family: ClipFamily, batches: Iterator[Batch]) -> None:
        from tqdm import tqdm

        quantizers = {
            name: quantizer
            for name, quantizer in enabled_quantizers(model).items()
            if not name.endswith(("weight_quantizer", "p_bmm_quantizer"))
        }
        with tqdm(total=self.total, desc=f"calibrate {self.spec.encoder}", unit="sample", disable=None) as bar:
            for batch, last in _mark_last(batches):
                if last and self.seen:
                    with _count_saturation(quantizers, self.saturation):
                        self._forward(model, family, batch)
                else:
                    self._forward(model, family, batch)
                self._record(quantizers, batch)
                bar.update(len(batch.indices))

    def _forward(self, model: nn.Module, family: ClipFamily, batch: Batch) -> None:
        import torch

        inputs = [torch.from_numpy(batch.input(item.name)) for item in self.spec.inputs]
        family.encode(model, self.spec.encoder, *inputs)

    def _record(self, quantizers: dict[str, Any], batch: Batch) -> None:
        self.seen += len(batch.indices)
        self.used += batch.indices
        for name, quantizer in quantizers.items():
            running = _running_amax(quantizer)
            if running is not None:
                self.curve.append({"quantizer": name, "samples": self.seen, "amax": running})


def _mark_last(batches: Iterator[Batch]) -> Iterator[tuple[Batch, bool]]:
    """Every batch, and whether it is the last: samples left out may be those at the end."""
    previous: Batch | None = None
    for batch in batches:
        if previous is not None:
            yield previous, False
        previous = batch
    if previous is not None:
        yield previous, True


def _running_amax(quantizer: Any) -> float | None:
    amax = quantizer._calibrator.compute_amax()
    return None if amax is None else float(amax)


@contextmanager
def _count_saturation(quantizers: dict[str, Any], result: dict[str, float]) -> Iterator[None]:
    """Record the share of a quantizer's inputs beyond its running maximum, before the batch updates it."""

    def watch(name: str, quantizer: Any) -> Any:
        limit = _running_amax(quantizer)

        def hook(_: Any, inputs: tuple[Any, ...]) -> None:
            if limit is not None:
                result[name] = float((inputs[0].abs() > limit).float().mean())

        return quantizer.register_forward_pre_hook(hook)

    handles = [watch(name, quantizer) for name, quantizer in quantizers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep(amax: dict[str, float], watch: _Watch, samples: Any) -> ArtifactRef:
    import pandas as pd

    store = active_store()
    used = [samples[index] for index in watch.used]
    frames = {
        AMAX_FILE: pd.DataFrame({"quantizer": list(amax), "amax": list(amax.values())}),
        "convergence.parquet": pd.DataFrame(watch.curve, columns=["quantizer", "samples", "amax"]),
        "saturation.parquet": pd.DataFrame(
            {"quantizer": list(watch.saturation), "share": list(watch.saturation.values())}
        ),
        "samples.parquet": pd.DataFrame(
            {
                "id": [s.id for s in used],
                "image_hash": [s.image_hash for s in used],
                "caption": [s.caption for s in used],
            }
        ),
    }
    with store.staging() as folder:
        for name, frame in frames.items():
            frame.to_parquet(folder / name, index=False)
        return store.add("calibration", folder)


@cached_step("calibrate", version=3, packages=PACKAGES)
def calibrate_task(
    snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef, recipe: Recipe, encoder: Encoder, batch_size: int
) -> Calibration:
    return calibrate(snapshot, preprocess, data, recipe, encoder, batch_size)
