"""Samples as a stream of preprocessed batches: decoded in threads, in order, in memory of a fixed size."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from artifacts.errors import BadBatch, BadSample, ConfigError
from tasks.data.base import Dataset
from tasks.data.images import has_contrast

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

MAX_BAD_SHARE = 0.01
"""Of a set's samples that cannot be decoded."""
_THREADS = min(8, len(os.sched_getaffinity(0)))
"""More than there are cores would take time from the model, which runs on the same ones."""
_OWN_PROCESSOR = "give the processor that belongs to the checkpoint"
_log = logging.getLogger(__name__)


class Preprocess(Protocol):
    """What a model's processor does to one picture and to a batch of captions."""

    def image(self, picture: Image, /) -> np.ndarray:
        """The pixel values of one picture, float32 [3, H, W]. Called from several threads at once."""
        ...

    def text(self, captions: list[str], /) -> tuple[np.ndarray, np.ndarray | None]:
        """Token ids [n, S] and, for models that use one, their mask. Called from the consumer's thread only."""
        ...


@dataclass(frozen=True)
class Batch:
    """Consecutive good samples; `indices` are their places in the data set. `faint` of their pictures have next to no
    contrast."""

    indices: list[int]
    pixel_values: np.ndarray  # float32 [n, 3, H, W]
    input_ids: np.ndarray  # int64 [n, S]
    attention_mask: np.ndarray | None  # int64 [n, S]
    faint: int = 0

    def input(self, name: str) -> np.ndarray:
        """A model input by its name.

        Raises:
            BadBatch: the preprocessor made no such input.
        """
        value: np.ndarray | None = getattr(self, name)
        if value is None:
            raise BadBatch(f"the tokenizer made no {name}", expected="what the model's text encoder takes")
        return value


class _Loaded(NamedTuple):
    """The pixel values of one picture, float32 [3, H, W], and whether it has next to no contrast."""

    pixels: np.ndarray
    faint: bool


class Done(NamedTuple):
    """How far a stream had come before: samples that are dealt with, and how many of them could not be decoded."""

    samples: int
    bad: int


NOTHING = Done(0, 0)


def stream_batches(
    dataset: Dataset,
    preprocess: Preprocess,
    batch_size: int,
    prefetch: int = 2,
    max_bad_share: float = MAX_BAD_SHARE,
    done: Done = NOTHING,
) -> Generator[Batch, None, None]:
    """Every good sample once, in order, in batches of `batch_size` (the last may be smaller), after those `done`.

    At most `prefetch` batches of samples are decoded ahead of the consumer. Samples that cannot be decoded are
    logged and left out. Closing the generator stops the threads.

    Raises:
        ConfigError: a size below 1 or a share outside 0..1.
        BadSample: more than `max_bad_share` of the whole set cannot be decoded; raised as soon as that is certain.
        DataError: the set changed while it was read, or the preprocessor gives an array of the wrong form.
    """
    if batch_size < 1 or prefetch < 1 or not 0 <= max_bad_share <= 1:
        raise ConfigError(
            f"batch_size={batch_size}, prefetch={prefetch}, max_bad_share={max_bad_share}",
            expected="sizes of at least 1 and a share of 0 to 1",
        )
    return _stream(dataset, preprocess, batch_size, prefetch * batch_size, max_bad_share, done)


def _stream(
    dataset: Dataset, preprocess: Preprocess, batch_size: int, ahead: int, max_bad_share: float, done: Done
) -> Generator[Batch, None, None]:
    def load(index: int) -> _Loaded:
        picture = dataset.image(index)
        return _Loaded(_checked(preprocess.image(picture), dataset.samples[index].id), not has_contrast(picture))

    with _threads(min(_THREADS, ahead)) as pool:
        places = range(done.samples, len(dataset.samples))
        good = _good(_in_order(pool, load, places, ahead), dataset, max_bad_share, done.bad)
        while (batch := _next_batch(good, dataset, preprocess, batch_size)) is not None:
            yield batch


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that drops what is queued when left: a plain `with` would first decode all of it."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="clipsmith-data")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, load: Callable[[int], _Loaded], places: range, ahead: int
) -> Iterator[tuple[int, Future[_Loaded]]]:
    """Samples in order while up to `ahead` later ones are loaded: memory does not grow with the data set."""
    waiting: deque[tuple[int, Future[_Loaded]]] = deque()
    for index in places:
        waiting.append((index, pool.submit(load, index)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _good(
    loaded: Iterator[tuple[int, Future[_Loaded]]], dataset: Dataset, max_bad_share: float, bad_before: int
) -> Iterator[tuple[int, _Loaded]]:
    """The samples that could be decoded; BadSample once there are more bad ones than the set may have."""
    bad: list[str] = []  # not the errors: their tracebacks would keep every bad image in memory
    total = len(dataset.samples)
    for index, future in loaded:
        try:
            good = future.result()
        except BadSample as error:
            bad.append(f"{error.where}: {error.what}")
            _log.warning("sample %s is left out: %s", dataset.samples[index].id, error)
            count = bad_before + len(bad)
            if count / total > max_bad_share:
                raise _too_many(count, total, max_bad_share, bad[0], dataset.source) from error
        else:
            yield index, good


def _too_many(bad: int, total: int, max_bad_share: float, first: str, source: str) -> BadSample:
    return BadSample(
        f"{bad} of {total} samples ({bad / total:.1%}) cannot be decoded; the first is {first}",
        where=source,
        expected=f"at most {max_bad_share:.1%} bad samples",
        fix="repair or remove the bad samples, which the log names; or raise max_bad_share",
    )


def _next_batch(
    good: Iterator[tuple[int, _Loaded]], dataset: Dataset, preprocess: Preprocess, size: int
) -> Batch | None:

    part = list(islice(good, size))
    if not part:
        return None
    indices = [index for index, _ in part]
    input_ids, mask = preprocess.text([dataset.samples[index].caption for index in indices])
    return Batch(
        indices,
        _stacked([loaded.pixels for _, loaded in part]),
        _tokens(input_ids, len(indices)),
        None if mask is None else _tokens(mask, len(indices)),
        sum(loaded.faint for _, loaded in part),
    )


def _checked(pixels: np.ndarray, sample: str) -> np.ndarray:
    if pixels.ndim != 3 or pixels.shape[0] != 3 or pixels.dtype != "float32":
        raise BadBatch(
            f"the preprocessor gave {pixels.dtype} {list(pixels.shape)}",
            where=sample,
            expected="float32 [3, H, W]",
            fix=_OWN_PROCESSOR,
        )
    return pixels


def _stacked(pictures: list[np.ndarray]) -> np.ndarray:
    import numpy as np

    shapes = {pixels.shape for pixels in pictures}
    if len(shapes) > 1:
        raise BadBatch(
            f"the preprocessor gave pictures of different sizes: {sorted(shapes)}",
            expected="one size",
            fix=_OWN_PROCESSOR,
        )
    return np.stack(pictures)


def _tokens(values: np.ndarray, rows: int) -> np.ndarray:
    if values.ndim != 2 or len(values) != rows or values.dtype.kind not in "iu":
        raise BadBatch(
            f"the tokenizer gave {values.dtype} {list(values.shape)}",
            expected=f"whole numbers [{rows}, S]",
            fix=_OWN_PROCESSOR,
        )
    return values.astype("int64", copy=False)
