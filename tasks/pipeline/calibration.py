"""Step 2: calibration data -> the amax of each quantizer, with evidence of whether the data sufficed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

from artifacts import places
from artifacts.manifest import Encoder
from artifacts.refs import ArtifactRef
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import AMAX_FILE, Snapshot
from tasks.data.pinned import DataRef
from tasks.families import family_named
from tasks.pipeline.gpu_room import gpu_room
from tasks.pipeline.kept import keep
from tasks.quantizing.calibration_feed import (
    Inputs,
    calibration_device,
    feed,
    full_precision,
    parts,
    read_scalars,
    torch_device,
)
from tasks.quantizing.modelopt import PACKAGES, insert_quantizers, load_exposed, read_amax, require_usable
from tasks.quantizing.recipe import Algorithm, Recipe
from tasks.runs.progress import progress
from tasks.runs.steps import StepOutput, cached_step, measured

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.clip.base import EncoderSpec
    from tasks.clip.hugging_face import ClipFamily
    from tasks.quantizing.activation_histogram import ActivationHistogram
    from tasks.quantizing.observers import Observer

MIN_BATCHES = 4
"""Small sets are split into at least this many batches, so that there is a convergence curve."""
_BARE_RUNS = 3
MAX_POINTS = 32
"""The most points of a convergence curve, evenly spaced, so that its size does not grow with the samples."""
FEW_POINTS = 8
"""The same for algorithms that choose each point from histograms, which is more work."""


class Calibration(StepOutput):
    """The amax of one encoder's quantizers.

    `table` holds `amax.parquet` (quantizer, amax), `convergence.parquet` (quantizer, samples, amax: the running
    amax, after at most `MAX_POINTS` of the batches and always after the last), `saturation.parquet` (quantizer,
    share: the share of the last batch's values beyond the amax of all earlier batches, an estimate of what unseen data
    will saturate) and `samples.parquet` (id, image_hash, caption). `device` is the result of `calibration_device`.
    `throughput` is in samples per second, from the first batch to the last amax read; `bare_throughput` is that of the
    model's forward pass alone, without quantizers and data loading (only on a GPU). `zeros` are quantizers that see
    only zeros, because weights are zero: they get scale 1. `faint` counts pictures with next to no contrast.
    """

    encoder: Encoder
    table: ArtifactRef
    samples: int
    skipped: int
    truncated: int
    quantizers: int
    device: str
    throughput: float
    bare_throughput: float | None
    zeros: tuple[str, ...] = ()
    faint: int = 0

    def speed(self) -> str:
        """The throughput in words, and as a share of the bare forward pass's."""
        made = f"{self.throughput:,.1f} samples/s on {self.device}"
        if self.bare_throughput is None:
            return made
        share = self.throughput / self.bare_throughput
        return f"{made}, {share:.0%} of the bare forward loop's {self.bare_throughput:,.1f}"


def calibrate(
    snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef, recipe: Recipe, encoder: Encoder, batch_size: int
) -> Calibration:
    """Run the encoder over the samples once, in FP32, on a GPU if there is one, and choose each quantizer's amax.

    The recipe names the algorithm. Algorithms other than max let values saturate: the evidence holds the share of the
    last batch's values that do.

    Raises:
        BadAmax: a quantizer's amax is zero, NaN, infinite or missing.
        BadSample: too many samples cannot be decoded.
    """
    import pandas as pd

    with measured() as meter:
        dataset = data.open()
        family = family_named(snapshot.family)
        spec = family.encoder_spec(snapshot.config, encoder)
        size = min(batch_size, math.ceil(len(dataset.samples) / MIN_BATCHES))
        processor = Preprocess.of(snapshot, preprocess)
        captions = [sample.caption for sample in dataset.samples]
        watch = _Watch(spec, len(dataset.samples), recipe.quantize.algorithm)
        device = torch_device()
        meter.on(calibration_device())
        # Decoding starts here, while the model loads.
        with feed(dataset, processor, spec, size, device) as inputs, full_precision():
            model, _ = load_exposed(snapshot)
            model.to(device)
            bare = None
            if device.type == "cuda":  # takes no time on a GPU, but a good part of the step on a CPU
                first = next(inputs)
                bare = _bare_throughput(model, family, encoder, first)
                inputs = chain([first], inputs)
            inputs = meter.fed(inputs, lambda batch: len(batch.indices))
            settled = insert_quantizers(
                model, snapshot, recipe, (encoder,), lambda made, observers: watch.run(made, observers, family, inputs)
            )
        amax = {name: value for name, value in read_amax(model, recipe).items() if name.startswith(spec.prefixes)}
        zeros = tuple(name for name in settled if name in amax)
        amax |= {name: require_usable(name, value) for name, value in watch.chosen().items() if name not in zeros}
        columns = ("id", "image_hash", "caption")
        used = [[getattr(dataset.samples[index], name) for name in columns] for index in watch.used]
        frames = {
            AMAX_FILE: pd.DataFrame(amax.items(), columns=["quantizer", "amax"]),
            places.CONVERGENCE: pd.DataFrame(watch.curve, columns=["quantizer", "samples", "amax"]),
            "saturation.parquet": pd.DataFrame(watch.saturation.items(), columns=["quantizer", "share"]),
            places.SAMPLES: pd.DataFrame(used, columns=columns),
        }
        table = keep("calibration", frames)
    return Calibration(
        encoder=encoder,
        table=table,
        samples=watch.seen,
        skipped=len(dataset.samples) - watch.seen,
        truncated=sum(map(processor.truncated, parts(captions, size))) if encoder == "text" else 0,
        quantizers=len(amax),
        device=calibration_device(),
        throughput=watch.seen / watch.seconds,
        bare_throughput=bare,
        zeros=zeros,
        faint=watch.faint,
        stats=meter.stats,
    )


def _bare_throughput(model: nn.Module, family: ClipFamily, encoder: Encoder, batch: Inputs) -> float:
    """Samples per second of the model without quantizers, on one batch that is on the device already."""
    import torch

    with torch.no_grad():
        family.encode(model, encoder, *batch.tensors)  # warm-up: libraries load
        start = _settled_time(batch)
        for _ in range(_BARE_RUNS):
            family.encode(model, encoder, *batch.tensors)
        return _BARE_RUNS * len(batch.indices) / (_settled_time(batch) - start)


def _settled_time(batch: Inputs) -> float:
    """The clock in seconds, after the device has finished its work."""
    import torch

    if batch.tensors[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


class _Watch:
    """Feeds the batches to the model and records how each quantizer's running amax develops."""

    def __init__(self, spec: EncoderSpec, total: int, algorithm: Algorithm = "max") -> None:
        self.spec = spec
        self.total = total
        self.algorithm = algorithm
        self.points = MAX_POINTS if algorithm == "max" else FEW_POINTS
        self.histograms: dict[str, ActivationHistogram] = {}
        self.seen = self.faint = 0
        self.seconds = 0.0
        self.used: list[int] = []
        self.curve: list[dict[str, Any]] = []
        self._kept: list[tuple[int, dict[str, torch.Tensor]]] = []
        self._amax: dict[str, float] = {}
        self.saturation: dict[str, float] = {}

    def run(
        self, model: nn.Module, observers: dict[str, Observer], family: ClipFamily, batches: Iterator[Inputs]
    ) -> None:
        from tasks.quantizing.activation_histogram import counted

        encoder, key = self.spec.encoder, f"clipsmith-progress-calibrate-{self.spec.encoder}"
        # The observers keep the maximum; other algorithms need histograms.
        counting = nullcontext(self.histograms) if self.algorithm == "max" else counted(observers)
        start = time.perf_counter()
        with counting as self.histograms, progress(key, self.total, "sample", f"calibrate {encoder}") as advance:
            # Each batch with the next one: which batch is the last is unknown before, as samples may be skipped.
            for batch, following in pairwise(chain(batches, [None])):
                assert batch is not None
                last = following is None
                limits = self._running_amax(observers) if last and self.seen else {}
                with _count_saturation(observers, limits, self.saturation):
                    family.encode(model, self.spec.encoder, *batch.tensors)
                self._record(observers, batch.indices, last)
                self.faint += batch.faint
                advance(len(batch.indices))
        self._read_points()
        self.seconds = time.perf_counter() - start

    def _record(self, observers: dict[str, Observer], indices: list[int], last: bool) -> None:
        before = self._points()
        self.seen += len(indices)
        self.used += indices
        if last or self._points() > before:
            self._kept.append((self.seen, self._running_amax(observers)))

    def _read_points(self) -> None:
        """Read all points from the device at the end: reading after each batch would leave the device idle."""
        for samples, kept in self._kept:
            self._amax = read_scalars(kept)
            self.curve += [{"quantizer": name, "samples": samples, "amax": amax} for name, amax in self._amax.items()]

    def _points(self) -> int:
        """How many points the curve should have by now, if the batches are small enough for that."""
        return self.seen * self.points // self.total

    def _running_amax(self, observers: dict[str, Observer]) -> dict[str, torch.Tensor]:
        """The amax so far of every quantizer that has seen data, on the device."""
        if self.algorithm != "max":
            from tasks.quantizing.activation_histogram import amaxes

            return amaxes(self.histograms, self.algorithm)
        found = {name: observer.amax for name, observer in observers.items()}
        return {name: amax for name, amax in found.items() if amax is not None}

    def chosen(self) -> dict[str, float]:
        """The amax that the algorithm chooses instead of the maximum, by quantizer."""
        return {} if self.algorithm == "max" else self._amax


@contextmanager
def _count_saturation(
    observers: dict[str, Observer], limits: dict[str, torch.Tensor], result: dict[str, float]
) -> Iterator[None]:
    """Record in `result` the share of each quantizer's inputs beyond its limit; those without a limit are skipped."""
    shares: dict[str, torch.Tensor] = {}

    def count(name: str, _: Any, inputs: tuple[Any, ...]) -> None:
        # Observers replace their maximum tensor and never write into it, so `limits` do not change.
        shares[name] = (inputs[0].abs() > limits[name]).float().mean()

    with ExitStack() as hooks:
        for name in limits:
            hooks.enter_context(observers[name].register_forward_pre_hook(partial(count, name)))
        yield
    result.update(read_scalars(shares))


@cached_step("calibrate", version=8, packages=PACKAGES)
def calibrate_task(
    snapshot: Snapshot,
    preprocess: ArtifactRef,
    data: DataRef,
    recipe: Recipe,
    encoder: Encoder,
    batch_size: int,
    device: str,
) -> Calibration:
    """`device` is `calibration_device()`: part of the cache key."""
    with gpu_room(snapshot, encoder, batch_size, device):
        return calibrate(snapshot, preprocess, data, recipe, encoder, batch_size)
