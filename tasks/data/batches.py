"""Samples as a stream of preprocessed batches: decoded in threads or processes, in order, with bounded memory."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from artifacts.errors import BadBatch, BadSample, ConfigError
from tasks.data.base import Dataset
from tasks.data.decoders import decoders
from tasks.data.loading import OWN_PROCESSOR, Loaded, Loader

if TYPE_CHECKING:
    import numpy as np

    from tasks.checkpoints.preprocess import Preprocess
    from tasks.data.picture_spool import PictureSpool

MAX_BAD_SHARE = 0.01
"""The largest share of a set's samples that may be undecodable."""
_CORES = len(os.sched_getaffinity(0))
_THREADS = min(8, _CORES)
"""Threads: more than there are cores would take time from the model, which runs on the same cores, and more than eight
wait for Python's global lock: a host with 16 cores prepared 478 JPEGs (640 x 480) per second with 8 threads, 413 with
16."""
_PROCESSES = max(2, _CORES - 2) if _CORES > _THREADS else 0
"""The most processes, for long sets: on that host 16 processes prepared 1,430 per second. Other cores are left to the
model."""
_LONG = 4096
"""The number of pictures from which processes are worth the seconds that they take to start."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Consecutive decodable samples; `indices` are their places in the data set, and `faint` counts their pictures with
    next to no contrast."""

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


class Pictures(NamedTuple):
    """As `Batch`, without captions, for image encoders: no text is tokenized."""

    indices: list[int]
    pixel_values: np.ndarray  # float32 [n, 3, H, W]
    faint: int


Outcomes = Generator[Loaded | BadSample, None, None]
"""The outcome of each sample, in order: its pixel values, or the error."""


class Done(NamedTuple):
    """How far an earlier stream came: the number of samples done, and how many of them could not be decoded."""

    samples: int
    bad: int


NOTHING = Done(0, 0)


def stream_batches(
    dataset: Dataset, preprocess: Preprocess, batch_size: int, prefetch: int = 2, max_bad_share: float = MAX_BAD_SHARE
) -> Generator[Batch, None, None]:
    """Every decodable sample once, as in `stream_pictures`, with captions. Raises as `stream_pictures`."""
    return _captioned(stream_pictures(dataset, preprocess, batch_size, prefetch, max_bad_share), dataset, preprocess)


def _captioned(
    stream: Generator[Pictures, None, None], dataset: Dataset, preprocess: Preprocess
) -> Generator[Batch, None, None]:
    with closing(stream) as parts:
        for indices, pixel_values, faint in parts:
            input_ids, mask = preprocess.text([dataset.samples[index].caption for index in indices])
            tokens = _tokens(input_ids, len(indices))
            yield Batch(indices, pixel_values, tokens, None if mask is None else _tokens(mask, len(indices)), faint)


def stream_pictures(
    dataset: Dataset,
    preprocess: Preprocess,
    batch_size: int,
    prefetch: int = 2,
    max_bad_share: float = MAX_BAD_SHARE,
    done: Done = NOTHING,
    keeper: PictureSpool | None = None,
) -> Generator[Pictures, None, None]:
    """Every decodable sample once, in order, in batches of `batch_size` (the last may be smaller), after those `done`.

    At most `prefetch` batches of samples are decoded ahead of the consumer, unless `keeper` has them. Samples that
    cannot be decoded are logged and left out. Closing the generator stops the decoding threads and processes.

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
    loader = Loader(preprocess, keeper.packing if keeper else None)

    def decode(start: int) -> Outcomes:
        return _decoded(dataset, loader, start, prefetch * batch_size)

    outcomes = keeper.outcomes(done.samples, decode) if keeper else decode(done.samples)
    return _batched(outcomes, dataset, batch_size, max_bad_share, done, keeper)


def _batched(
    outcomes: Outcomes, dataset: Dataset, size: int, max_bad_share: float, done: Done, keeper: PictureSpool | None
) -> Generator[Pictures, None, None]:
    with closing(outcomes):
        good = _good(outcomes, dataset, max_bad_share, done)
        while part := list(islice(good, size)):
            pixels = [keeper.packing.unpacked(loaded.pixels) if keeper else loaded.pixels for _, loaded in part]
            yield Pictures([index for index, _ in part], stacked(pixels), sum(loaded.faint for _, loaded in part))


def _decoded(dataset: Dataset, loader: Loader, start: int, ahead: int) -> Outcomes:
    """Load all samples from `start`, several at once, and log those that cannot be loaded."""
    with _loading(dataset, loader, len(dataset.samples) - start) as (load, count), _threads(min(count, ahead)) as pool:
        for index, future in _in_order(pool, load, range(start, len(dataset.samples)), ahead):
            outcome: Loaded | BadSample
            try:
                outcome = future.result()
            except BadSample as error:
                _log.warning("sample %s is left out: %s", dataset.samples[index].id, error)
                outcome = error.with_traceback(None)  # a traceback would keep the picture in memory
            yield outcome


@contextmanager
def _loading(dataset: Dataset, loader: Loader, pictures: int) -> Iterator[tuple[Callable[[int], Loaded], int]]:
    """The function that loads a sample, and the number of threads to call it in: it decodes in the calling thread, or
    in one of as many processes."""

    def here(index: int) -> Loaded:
        return loader.load(dataset.image(index), dataset.samples[index].id)

    if not _PROCESSES or pictures < _LONG or dataset.encoded(0) is None:
        yield here, _THREADS
        return
    with decoders(loader, _PROCESSES) as others:

        def elsewhere(index: int) -> Loaded:
            encoded = dataset.encoded(index)
            assert encoded is not None
            return others.load(encoded)

        yield elsewhere, _PROCESSES


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that drops queued work at the end: a plain `with` would first finish all of it."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="clipsmith-data")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, load: Callable[[int], Loaded], places: range, ahead: int
) -> Iterator[tuple[int, Future[Loaded]]]:
    """The samples in order, while at most `ahead` later ones are loaded, so that memory does not grow with the set."""
    waiting: deque[tuple[int, Future[Loaded]]] = deque()
    for index in places:
        waiting.append((index, pool.submit(load, index)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _good(outcomes: Outcomes, dataset: Dataset, max_bad_share: float, done: Done) -> Iterator[tuple[int, Loaded]]:
    """The samples that could be decoded. Raises BadSample once more are bad than `max_bad_share` allows."""
    bad: list[str] = []
    total = len(dataset.samples)
    for index, outcome in enumerate(outcomes, done.samples):
        if isinstance(outcome, BadSample):
            bad.append(f"{outcome.where}: {outcome.what}")
            count = done.bad + len(bad)
            if count / total > max_bad_share:
                raise _too_many(count, total, max_bad_share, bad[0], dataset.source) from outcome
        else:
            yield index, outcome


def _too_many(bad: int, total: int, max_bad_share: float, first: str, source: str) -> BadSample:
    return BadSample(
        f"{bad} of {total} samples ({bad / total:.1%}) cannot be decoded; the first is {first}",
        where=source,
        expected=f"at most {max_bad_share:.1%} bad samples",
        fix="repair or remove the bad samples, which the log names; or raise max_bad_share",
    )


def stacked(pictures: list[np.ndarray]) -> np.ndarray:
    """One or more pictures as one array. Raises: BadBatch: they have different sizes."""
    import numpy as np

    shapes = {pixels.shape for pixels in pictures}
    if len(shapes) > 1:
        raise BadBatch(
            f"the preprocessor gave pictures of different sizes: {sorted(shapes)}",
            expected="one size",
            fix=OWN_PROCESSOR,
        )
    return np.stack(pictures)


def _tokens(values: np.ndarray, rows: int) -> np.ndarray:
    if values.ndim != 2 or len(values) != rows or values.dtype.kind not in "iu":
        raise BadBatch(
            f"the tokenizer gave {values.dtype} {list(values.shape)}",
            expected=f"whole numbers [{rows}, S]",
            fix=OWN_PROCESSOR,
        )
    return values.astype("int64", copy=False)
