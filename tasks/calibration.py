"""Step 2: calibration data -> per-quantizer amax, with the evidence that the data sufficed."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from artifacts.manifest import Encoder
from artifacts.refs import ArtifactRef
from artifacts.store import active_store
from tasks.clip import family_named
from tasks.data.batches import Batch, stream_batches
from tasks.datasource import DataRef
from tasks.modelopt import PACKAGES, enabled_quantizers, insert_quantizers, load_exposed, read_amax
from tasks.preprocess import Preprocess
from tasks.progress import progress
from tasks.recipe import Recipe
from tasks.snapshot import AMAX_FILE, Snapshot
from tasks.steps import StepOutput, cached_step, measured

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.clip import ClipFamily, EncoderSpec

MIN_BATCHES = 4
"""Small sets are split into at least this many batches, so that there is a convergence curve to look at."""
_BARE_RUNS = 3
MAX_POINTS = 32
"""Points of a convergence curve, at even distances: its size does not depend on the number of samples."""


class Calibration(StepOutput):
    """The amax of one encoder's quantizers.

    `table` holds `amax.parquet` (quantizer, amax), `convergence.parquet` (quantizer, samples, amax: the running
    maximum, after at most `MAX_POINTS` of the batches and always after the last), `saturation.parquet` (quantizer,
    share: of the last batch's values beyond the amax of all batches before it, an estimate of what unseen data will
    saturate) and `samples.parquet` (id, image_hash, caption). `device` is what it ran on, as `calibration_device` says.
    `throughput` counts samples per second, from the first batch to the last amax read; `bare_throughput` is that of the
    model's forward loop alone, without quantizers or data to wait for, where it is a GPU that runs it.
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

    def speed(self) -> str:
        """Both in words."""
        made = f"{self.throughput:,.1f} samples/s on {self.device}"
        if self.bare_throughput is None:
            return made
        share = self.throughput / self.bare_throughput
        return f"{made}, {share:.0%} of the bare forward loop's {self.bare_throughput:,.1f}"


def calibration_device() -> str:
    """What calibration runs on here: the GPU's name where PyTorch can use one, otherwise `cpu`.

    For the cache key: a GPU sums in another order, so an amax may differ in its last digits.
    """
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def calibrate(
    snapshot: Snapshot, preprocess: ArtifactRef, data: DataRef, recipe: Recipe, encoder: Encoder, batch_size: int
) -> Calibration:
    """Run the encoder over the samples with ModelOpt's max calibration, in FP32, on a GPU if there is one.

    Raises:
        BadAmax: a quantizer's amax is zero, NaN, infinite or missing.
        BadSample: too many samples cannot be decoded.
    """
    with measured() as meter:
        store = active_store()
        dataset = data.open()
        family = family_named(snapshot.family)
        spec = family.encoder_spec(snapshot.config, encoder)
        size = min(batch_size, math.ceil(len(dataset.samples) / MIN_BATCHES))
        processor = Preprocess(store.path(preprocess), family, snapshot.config)
        captions = [sample.caption for sample in dataset.samples]
        batches = (
            stream_batches(dataset, processor, size) if encoder == "image" else _captions(captions, processor, size)
        )
        watch = _Watch(spec, len(dataset.samples))
        device = _torch_device()
        # Decoding starts here, while the model loads.
        with _made_ahead(_on_device(batches, spec, device)) as inputs, _full_precision():
            model, _ = load_exposed(snapshot)
            model.to(device)
            bare = None
            if device.type == "cuda":  # which does it in passing; on a CPU it would be a good part of the step
                first = next(inputs)
                bare = _bare_throughput(model, family, encoder, first)
                inputs = chain([first], inputs)
            insert_quantizers(model, snapshot, recipe, (encoder,), lambda made: watch.run(made, family, inputs))
        amax = {name: value for name, value in read_amax(model, recipe).items() if name.startswith(spec.prefixes)}
        table = _keep(amax, watch, dataset.samples)
    return Calibration(
        encoder=encoder,
        table=table,
        samples=watch.seen,
        skipped=len(dataset.samples) - watch.seen,
        truncated=sum(map(processor.truncated, _parts(captions, size))) if encoder == "text" else 0,
        quantizers=len(amax),
        device=calibration_device(),
        throughput=watch.seen / watch.seconds,
        bare_throughput=bare,
        stats=meter.stats,
    )


def _torch_device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _bare_throughput(model: nn.Module, family: ClipFamily, encoder: Encoder, batch: _Inputs) -> float:
    """Samples per second of the model as it is, on one batch that is on the device."""
    import torch

    with torch.no_grad():
        family.encode(model, encoder, *batch.tensors)  # libraries load
        start = _settled_time(batch)
        for _ in range(_BARE_RUNS):
            family.encode(model, encoder, *batch.tensors)
        return _BARE_RUNS * len(batch.indices) / (_settled_time(batch) - start)


def _settled_time(batch: _Inputs) -> float:
    """The clock in seconds, once the device has done what it was given."""
    import torch

    if batch.tensors[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32 in convolutions, where PyTorch allows it by default: 10 bits of mantissa in the patch embedding."""
    import torch

    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _captions(captions: list[str], processor: Preprocess, size: int) -> Generator[Batch, None, None]:
    """Token batches alone: a text encoder is calibrated without decoding a single picture."""
    done = 0
    for part in _parts(captions, size):
        tokens, mask = processor.text(part)
        yield Batch(list(range(done, done + len(part))), np.empty((len(part), 0, 0, 0), np.float32), tokens, mask)
        done += len(part)


def _parts(captions: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(captions), size):
        yield captions[start : start + size]


@dataclass(frozen=True)
class _Inputs:
    """One batch on the device: tensors in the order of the encoder's inputs, and the places of its samples."""

    indices: list[int]
    tensors: list[torch.Tensor]


def _on_device(
    batches: Generator[Batch, None, None], spec: EncoderSpec, device: torch.device
) -> Generator[_Inputs, None, None]:
    with closing(batches):
        for batch in batches:
            yield _Inputs(batch.indices, [_moved(batch.input(item.name), device) for item in spec.inputs])


def _moved(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """As a tensor on `device`; a copy to a GPU is only begun: what computes with it there comes after it."""
    import torch

    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


@contextmanager
def _made_ahead(items: Generator[_Inputs, None, None]) -> Iterator[Iterator[_Inputs]]:
    """The same items, each made by a thread while the one before it is used, the first one at once.

    Stacking, tokenizing and copying to the device overlap the model's work like decoding does.
    """
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="clipsmith-feed") as pool:
        yield _as_made(pool, items, pool.submit(next, items, None))


def _as_made(pool: ThreadPoolExecutor, items: Iterator[_Inputs], coming: Future[_Inputs | None]) -> Iterator[_Inputs]:
    while (item := coming.result()) is not None:
        coming = pool.submit(next, items, None)
        yield item


def _mark_last(items: Iterator[_Inputs]) -> Iterator[tuple[_Inputs, bool]]:
    """Every batch, and whether it is the last: samples left out may be those at the end."""
    previous: _Inputs | None = None
    for item in items:
        if previous is not None:
            yield previous, False
        previous = item
    if previous is not None:
        yield previous, True


class _Watch:
    """Feeds the batches to the model and records how each quantizer's running maximum develops."""

    def __init__(self, spec: EncoderSpec, total: int) -> None:
        self.spec = spec
        self.total = total
        self.seen = 0
        self.seconds = 0.0
        self.used: list[int] = []
        self.curve: list[dict[str, Any]] = []
        self.saturation: dict[str, float] = {}

    def run(self, model: nn.Module, family: ClipFamily, batches: Iterator[_Inputs]) -> None:
        quantizers = {
            name: quantizer
            for name, quantizer in enabled_quantizers(model).items()
            if not name.endswith(("weight_quantizer", "p_bmm_quantizer"))
        }
        encoder = self.spec.encoder
        start = time.perf_counter()
        with progress(
            f"clipsmith-progress-calibrate-{encoder}", self.total, "sample", f"calibrate {encoder}"
        ) as advance:
            for batch, last in _mark_last(batches):
                with _count_saturation(quantizers, self.saturation) if last and self.seen else nullcontext():
                    family.encode(model, self.spec.encoder, *batch.tensors)
                self._record(quantizers, batch.indices, last)
                advance(len(batch.indices))
        self.seconds = time.perf_counter() - start

    def _record(self, quantizers: dict[str, Any], indices: list[int], last: bool) -> None:
        before = self._points()
        self.seen += len(indices)
        self.used += indices
        if last or self._points() > before:
            amax = _read(_running_amax(quantizers))
            self.curve += [{"quantizer": name, "samples": self.seen, "amax": value} for name, value in amax.items()]

    def _points(self) -> int:
        """How many points a curve has by now if every batch is small enough to end at each."""
        return self.seen * MAX_POINTS // self.total


def _running_amax(quantizers: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The maximum so far of every quantizer that data has reached."""
    found = {name: quantizer._calibrator.compute_amax() for name, quantizer in quantizers.items()}
    return {name: amax for name, amax in found.items() if amax is not None}


def _read(scalars: dict[str, torch.Tensor]) -> dict[str, float]:
    """Their values, read from the device all at once."""
    import torch

    values = torch.stack([scalar.reshape(()) for scalar in scalars.values()]).tolist() if scalars else []
    return dict(zip(scalars, values, strict=True))


@contextmanager
def _count_saturation(quantizers: dict[str, Any], result: dict[str, float]) -> Iterator[None]:
    """Record the share of a quantizer's inputs beyond its running maximum, before the batch updates it."""
    shares: dict[str, torch.Tensor] = {}

    def watch(name: str, limit: torch.Tensor) -> Any:
        def hook(_: Any, inputs: tuple[Any, ...]) -> None:
            shares[name] = (inputs[0].abs() > limit).float().mean()

        return quantizers[name].register_forward_pre_hook(hook)

    # The calibrator replaces its maximum and does not write into it: these stay what they are.
    handles = [watch(name, limit) for name, limit in _running_amax(quantizers).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    result.update(_read(shares))


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


@cached_step("calibrate", version=5, packages=PACKAGES)
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
    del device
    return calibrate(snapshot, preprocess, data, recipe, encoder, batch_size)
