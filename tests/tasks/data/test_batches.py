"""The stream keeps order and a fixed memory, counts bad samples, and stops its threads."""

from __future__ import annotations

import gc
import io
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as pictures

from artifacts.errors import BadSample, ConfigError, DataError
from tasks.data.base import Classes, Sample
from tasks.data.batches import Batch, stream_batches
from tasks.data.folder import Folder
from tests.wording import refusal


class Numbered:
    """Sample n is a picture whose red value is n modulo 256; keeps count of pictures asked for and alive."""

    source = "numbered"
    classes: Classes | None = None

    def __init__(self, count: int, bad: Sequence[int] = (), delay: Callable[[int], float] = lambda _: 0.0) -> None:
        self.samples: Sequence[Sample] = [Sample(f"s{n}", f"{n:064x}", f"caption {n}") for n in range(count)]
        self.asked = 0
        self.most_alive = 0
        self._bad = frozenset(bad)
        self._delay = delay
        self._alive = 0
        self._lock = threading.RLock()  # a picture may be freed while its own thread counts

    def image(self, index: int) -> Image.Image:
        time.sleep(self._delay(index))
        with self._lock:
            self.asked += 1
        if index in self._bad:
            raise BadSample("broken", where=f"file {index}")
        picture = Image.new("RGB", (4, 4), (index % 256, 0, 0))
        with self._lock:
            self._alive += 1
            self.most_alive = max(self.most_alive, self._alive)
        weakref.finalize(picture, self._freed)
        return picture

    def _freed(self) -> None:
        with self._lock:
            self._alive -= 1


class Plain:
    """Pixels as they are; a text is its length, twice."""

    def __init__(self, mask: bool = False) -> None:
        self._mask = mask

    def image(self, picture: Image.Image, /) -> np.ndarray:
        return np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)

    def text(self, captions: list[str], /) -> tuple[np.ndarray, np.ndarray | None]:
        ids = np.array([[len(caption)] * 2 for caption in captions], dtype=np.int32)
        return ids, np.ones_like(ids) if self._mask else None


def test_pictures_with_next_to_no_contrast_are_counted() -> None:
    class Faint(Numbered):
        def image(self, index: int) -> Image.Image:
            picture = super().image(index)
            if index % 3:
                picture.putpixel((0, 0), (0, 255, 0))
            return picture

    batches = list(stream_batches(Faint(10, bad=[3]), Plain(), 4, max_bad_share=0.2))
    assert [batch.indices for batch in batches] == [[0, 1, 2, 4], [5, 6, 7, 8], [9]]
    assert [batch.faint for batch in batches] == [1, 1, 1]


def indices(batches: Sequence[Batch]) -> list[int]:
    return [index for batch in batches for index in batch.indices]


def data_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("clipsmith-data")]


# --- what comes out ----------------------------------------------------------------------------------------


def test_every_sample_once_in_order_although_loading_is_not() -> None:
    dice = random.Random(0)
    delays = [dice.random() * 0.01 for _ in range(53)]
    batches = list(stream_batches(Numbered(53, delay=delays.__getitem__), Plain(), 8))
    assert indices(batches) == list(range(53))
    assert [len(batch.indices) for batch in batches] == [8] * 6 + [5]
    assert [int(value) for batch in batches for value in batch.pixel_values[:, 0, 0, 0]] == list(range(53))


def test_forms() -> None:
    batch = next(stream_batches(Numbered(3), Plain(mask=True), 2))
    assert (batch.pixel_values.shape, batch.pixel_values.dtype) == ((2, 3, 4, 4), np.float32)
    assert (batch.input_ids.shape, batch.input_ids.dtype) == ((2, 2), np.int64)
    assert batch.attention_mask is not None
    assert (batch.attention_mask.shape, batch.attention_mask.dtype) == ((2, 2), np.int64)
    assert next(stream_batches(Numbered(1), Plain(), 2)).attention_mask is None


@pytest.mark.parametrize(("batch_size", "prefetch"), [(1, 1), (1, 5), (3, 1), (100, 2)])
def test_sizes(batch_size: int, prefetch: int) -> None:
    assert indices(list(stream_batches(Numbered(7), Plain(), batch_size, prefetch))) == list(range(7))


def test_empty_set_gives_no_batch() -> None:
    assert list(stream_batches(Numbered(0), Plain(), 8)) == []


def test_captions_go_with_their_pictures() -> None:
    batches = list(stream_batches(Numbered(12, bad=[9]), Plain(), 4, max_bad_share=0.5))
    lengths = [int(row[0]) for batch in batches for row in batch.input_ids]
    assert lengths == [len(f"caption {n}") for n in range(12) if n != 9]


# --- memory and threads ------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_set() -> None:
    gc.collect()
    data = Numbered(400)
    for number, _ in enumerate(stream_batches(data, Plain(), 4, prefetch=2), start=1):
        time.sleep(0.001)
        assert data.asked <= 4 * (number + 2)  # two batches ahead, no more
    assert data.asked == 400
    assert data.most_alive <= 9  # one for each thread, one that is being freed


def test_no_more_threads_than_cores() -> None:
    stream = stream_batches(Numbered(400, delay=lambda _: 0.001), Plain(), 32)
    next(stream)
    assert 1 <= len(data_threads()) <= len(os.sched_getaffinity(0))
    stream.close()


def test_slow_consumer_gets_prefetched_batches() -> None:
    data = Numbered(40)
    stream = stream_batches(data, Plain(), 4, prefetch=3)
    next(stream)
    deadline = time.monotonic() + 5
    while data.asked < 16 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert data.asked == 16
    stream.close()


def test_closing_stops_the_threads_and_drops_what_is_queued() -> None:
    data = Numbered(1000, delay=lambda n: 0.0 if n < 64 else 0.2)
    stream = stream_batches(data, Plain(), 64)
    next(stream)
    assert data_threads()
    stream.close()
    assert data_threads() == []
    assert data.asked <= 64 + 32  # of 128 that were queued


def test_leaving_a_loop_stops_the_threads() -> None:
    for _ in stream_batches(Numbered(1000), Plain(), 2):
        break
    gc.collect()
    assert data_threads() == []


def test_end_and_failure_stop_the_threads() -> None:
    list(stream_batches(Numbered(20), Plain(), 4))
    assert data_threads() == []
    with pytest.raises(BadSample):
        list(stream_batches(Numbered(1000, bad=range(1000)), Plain(), 4))
    assert data_threads() == []


def test_nothing_starts_before_the_first_batch_is_asked_for() -> None:
    data = Numbered(20)
    stream = stream_batches(data, Plain(), 4)
    assert data.asked == 0
    assert data_threads() == []
    stream.close()


# --- bad samples -------------------------------------------------------------------------------------------


def test_few_bad_samples_are_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        batches = list(stream_batches(Numbered(100, bad=[5, 50]), Plain(), 10, max_bad_share=0.02))
    assert indices(batches) == [n for n in range(100) if n not in (5, 50)]
    assert [len(batch.indices) for batch in batches] == [10] * 9 + [8]
    assert [record.getMessage().split()[1] for record in caplog.records] == ["s5", "s50"]


@pytest.mark.parametrize(("bad", "share"), [(1, 0.01), (29, 0.29), (0, 0.0), (100, 1.0)])
def test_share_at_the_limit_is_tolerated(bad: int, share: float) -> None:
    found = indices(list(stream_batches(Numbered(100, bad=range(bad)), Plain(), 10, max_bad_share=share)))
    assert len(found) == 100 - bad


def test_too_many_names_count_share_and_first_file() -> None:
    with pytest.raises(BadSample) as caught:
        list(stream_batches(Numbered(200, bad=[7, 8, 9, 150]), Plain(), 10))
    assert "3 of 200 samples (1.5%)" in str(caught.value)
    assert "the first is file 7: broken" in str(caught.value)
    assert "at most 1.0%" in str(caught.value)


def test_failure_comes_as_soon_as_it_is_certain() -> None:
    data = Numbered(1000, bad=range(20, 1000))
    seen: list[Batch] = []
    with pytest.raises(BadSample, match="11 of 1000"):
        seen.extend(stream_batches(data, Plain(), 4))
    assert data.asked <= 31 + 8 + 1


def test_one_bad_sample_of_a_small_set_is_too_many() -> None:
    with refusal(BadSample, "numbered"):
        list(stream_batches(Numbered(8, bad=[0]), Plain(), 4))


def test_truncated_jpeg_in_a_folder(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(pictures.astronaut()[:64, :64]).save(stream, "JPEG")
    whole = stream.getvalue()
    rows = [f"{n}.jpg,caption {n}" for n in range(10)]
    for n in range(10):
        (tmp_path / f"{n}.jpg").write_bytes(whole[: len(whole) // 2] if n == 3 else whole)
    (tmp_path / "captions.csv").write_text("\n".join(["file,caption", *rows]))
    folder = Folder(tmp_path)
    assert indices(list(stream_batches(folder, Plain(), 4, max_bad_share=0.1))) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    with pytest.raises(BadSample, match=r"3\.jpg.*truncated"):
        list(stream_batches(folder, Plain(), 4))
    (tmp_path / "5.jpg").write_bytes(whole + b"\0")
    with pytest.raises(DataError, match="changed"):
        list(stream_batches(folder, Plain(), 4, max_bad_share=1.0))


# --- misuse ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"prefetch": 0}, {"max_bad_share": 1.5}, {"max_bad_share": -1}])
def test_parameters_are_checked_at_the_call(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        stream_batches(Numbered(4), Plain(), **{"batch_size": 2, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4, 3), np.float32), np.zeros((1, 3, 4, 4), np.float32), np.zeros((3, 4, 4), np.float64)]
)
def test_wrong_pixels(pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plain, "image", lambda *_: pixels)
    with pytest.raises(DataError, match="float32"):
        list(stream_batches(Numbered(4), Plain(), 2))


@pytest.mark.parametrize("ids", [np.zeros((1, 2), np.int64), np.zeros(2, np.int64), np.zeros((2, 2), np.float32)])
def test_wrong_tokens(ids: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plain, "text", lambda *_: (ids, None))
    with pytest.raises(DataError, match="the tokenizer gave"):
        list(stream_batches(Numbered(4), Plain(), 2))


def test_pictures_of_different_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter(range(1, 5))
    monkeypatch.setattr(Plain, "image", lambda *_: np.zeros((3, next(sizes), 4), np.float32))
    with pytest.raises(DataError, match="different sizes"):
        list(stream_batches(Numbered(4), Plain(), 2))
