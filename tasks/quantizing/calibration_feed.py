"""Calibration samples as an encoder's inputs: read, preprocessed and copied to the device ahead of their use."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.checkpoints.preprocess import Preprocess
from tasks.data.base import Dataset
from tasks.data.batches import Batch, stream_batches

if TYPE_CHECKING:
    import torch

    from tasks.clip.base import EncoderSpec

_Item = TypeVar("_Item")


def torch_device() -> torch.device:
    """A GPU if PyTorch can use one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def calibration_device() -> str:
    """The device of calibration on this machine: the GPU's name if PyTorch can use one, else `cpu`.

    It is part of the cache key: a GPU sums in another order, so an amax may differ in its last digits.
    """
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def read_scalars(scalars: dict[str, torch.Tensor]) -> dict[str, float]:
    """Copy the values from the device in one transfer."""
    import torch

    values = torch.stack([scalar.reshape(()) for scalar in scalars.values()]).tolist() if scalars else []
    return dict(zip(scalars, values, strict=True))


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch off TF32, which has 10 mantissa bits: PyTorch allows it in convolutions by default, users in products."""
    import torch

    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before


@dataclass(frozen=True)
class Inputs:
    """One batch on the device: tensors in the order of the encoder's inputs, and the indices of its samples; `faint`
    counts pictures with next to no contrast."""

    indices: list[int]
    tensors: list[torch.Tensor]
    faint: int = 0


@contextmanager
def feed(
    dataset: Dataset, processor: Preprocess, spec: EncoderSpec, size: int, device: torch.device
) -> Iterator[Iterator[Inputs]]:
    """Batches of `size` decodable samples on `device`, in order; decoding starts at once and ends with the block."""
    captions = [sample.caption for sample in dataset.samples]
    images = spec.encoder == "image"
    batches = stream_batches(dataset, processor, size) if images else _captions(captions, processor, size)
    with made_ahead(_on_device(batches, spec, device)) as inputs:
        yield inputs


def _on_device(
    batches: Generator[Batch, None, None], spec: EncoderSpec, device: torch.device
) -> Generator[Inputs, None, None]:
    with closing(batches):
        for batch in batches:
            yield Inputs(batch.indices, [_moved(batch.input(item.name), device) for item in spec.inputs], batch.faint)


def _moved(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Move values to `device` as a tensor; a copy to a GPU is asynchronous, and kernels that use it wait for it."""
    import torch

    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


@contextmanager
def made_ahead(items: Generator[_Item, None, None]) -> Iterator[Iterator[_Item]]:
    """The same items, each made in a thread while the previous one is used; the first is started at once.

    So stacking, tokenizing and copying to the device overlap with the model's work, as decoding does.
    """
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="clipsmith-feed") as pool:
        yield _as_made(pool, items, pool.submit(next, items, None))


def _as_made(pool: ThreadPoolExecutor, items: Iterator[_Item], coming: Future[_Item | None]) -> Iterator[_Item]:
    while (item := coming.result()) is not None:
        coming = pool.submit(next, items, None)
        yield item


def _captions(captions: list[str], processor: Preprocess, size: int) -> Generator[Batch, None, None]:
    """Batches of tokens only, so that a text encoder is calibrated without decoding pictures."""
    done = 0
    for part in parts(captions, size):
        tokens, mask = processor.text(part)
        yield Batch(list(range(done, done + len(part))), np.empty((len(part), 0, 0, 0), np.float32), tokens, mask)
        done += len(part)


def parts(captions: list[str], size: int) -> Iterator[list[str]]:
    """The captions in parts of `size`."""
    for start in range(0, len(captions), size):
        yield captions[start : start + size]
