"""Kept pictures are what the processor makes, bit for bit, and what is damaged, foreign or another's is not used."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data as skimage_data

from artifacts import fs
from artifacts.errors import BadBatch, BadSample
from artifacts.refs import ArtifactRef
from artifacts.store.garbage import collect
from artifacts.store.store import Store, activate
from tasks.checkpoints.preprocess import Processor
from tasks.clip.processors import processor_class
from tasks.data import picture_spool
from tasks.data.base import Classes, Sample
from tasks.data.batches import NOTHING, Done, stream_pictures
from tasks.data.picture_spool import PictureSpool, discard_pictures
from tasks.data.pinned import DataRef
from tasks.openclip.document import Document
from tasks.openclip.preprocess import image_settings
from tasks.runs import steps
from tests.artifacts.support import digest

PREPROCESS = ArtifactRef(kind="preprocess", digest=digest("preprocess"), files=())
DATA = DataRef(spec="noise", role="evaluation", limit=None, digest=digest("data"), samples=1)


class Images(Processor):
    """An image processor without a tokenizer."""

    def __init__(self, images: Any) -> None:
        self._images = images


def small_clip(**settings: Any) -> Images:
    """CLIP's own at 8 x 8 pixels."""
    made = processor_class({"image_processor_type": "CLIPImageProcessor"}, "clip")
    return Images(made(**{"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}} | settings))


@dataclass
class Noise:
    """Pictures of their own, of which `bad` cannot be decoded and `flat` have one colour; `asked` are those decoded."""

    count: int
    bad: tuple[int, ...] = ()
    flat: tuple[int, ...] = ()
    name: str = "noise"
    asked: list[int] = field(default_factory=list)
    classes: Classes | None = None

    def __post_init__(self) -> None:
        self.source = self.name
        self.samples: Sequence[Sample] = [
            Sample(f"s{n}", digest(f"{self.name} {n}"), "a caption") for n in range(self.count)
        ]

    def image(self, index: int) -> Image.Image:
        self.asked.append(index)
        if index in self.bad:
            raise BadSample("broken", where=f"file {index}", expected="a picture")
        if index in self.flat:
            return Image.new("RGB", (9, 9), (index, 0, 0))
        return Image.fromarray(np.random.default_rng(index).integers(0, 256, (12, 10, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty store; chunks of 4 samples."""
    monkeypatch.setattr(picture_spool, "CHUNK", 4)
    monkeypatch.setattr(picture_spool, "_told", set())
    made = Store.open(tmp_path / "store")
    with activate(made):
        yield made
    made.close()


def spool(dataset: Any, processor: Processor) -> PictureSpool:
    return PictureSpool(PREPROCESS, DATA, dataset, processor)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Passed:
    """What one pass over a set gave."""

    indices: list[int]
    pixels: bytes
    faint: int


def gone_through(dataset: Any, processor: Any, *, kept: bool = True, done: Done = NOTHING, share: float = 1) -> Passed:
    """All of a set, in batches of 3."""
    keeper = spool(dataset, processor) if kept else None
    parts = list(stream_pictures(dataset, processor, 3, max_bad_share=share, done=done, keeper=keeper))
    pixels = b"".join(part.pixel_values.tobytes() for part in parts)
    assert all(part.pixel_values.dtype == np.float32 for part in parts)
    return Passed([index for part in parts for index in part.indices], pixels, sum(part.faint for part in parts))


def chunks(store: Store) -> list[Path]:
    return sorted(store.root.glob("cache/partial/*/*"))


# --- what is kept ----------------------------------------------------------------------------------------------------

PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "CLIP": ("CLIPImageProcessor", {}),
    "SigLIP": ("SiglipImageProcessor", {"size": {"height": 224, "width": 224}}),
    "Chinese CLIP": ("ChineseCLIPImageProcessor", {}),
    "ViT": ("ViTImageProcessor", {}),
    "BiT": ("BitImageProcessor", {}),
    "ConvNeXt": ("ConvNextImageProcessor", {}),
    "DeiT": ("DeiTImageProcessor", {}),
    "without a scale": ("CLIPImageProcessor", {"do_rescale": False}),
}
OPENCLIP: dict[str, dict[str, Any]] = {
    "OpenCLIP's default": {},
    "OpenCLIP, squashed": {"resize_mode": "squash", "interpolation": "bilinear", "mean": 0.5, "std": 0.5},
}


def of_openclip(preprocess: dict[str, Any]) -> dict[str, Any]:
    towers = {"embed_dim": 8, "vision_cfg": {"image_size": 256}, "text_cfg": {}}
    content = {"model_cfg": towers, "preprocess_cfg": preprocess}
    return image_settings(Document.of(content, Path("open_clip_config.json")))


CASES = PROCESSORS | {name: ("CLIPImageProcessor", {"openclip": settings}) for name, settings in OPENCLIP.items()}


@dataclass
class Photographs:
    """Real pictures, larger than a model takes, and one that is smaller."""

    source: str = "photographs"
    classes: Classes | None = None

    def __post_init__(self) -> None:
        names = ("astronaut", "coffee", "chelsea", "rocket")
        self._pictures = [Image.fromarray(getattr(skimage_data, name)()) for name in names]
        self._pictures.append(self._pictures[0].resize((50, 90)))
        self.samples: Sequence[Sample] = [Sample(str(n), digest(str(n)), "") for n in range(5)]
        self.asked = 0

    def image(self, index: int) -> Image.Image:
        self.asked += 1
        return self._pictures[index]


@pytest.mark.parametrize("case", CASES)
def test_rows_are_the_processors_own_bit_for_bit_and_kept_as_bytes(case: str, store: Store) -> None:
    name, settings = CASES[case]
    settings = of_openclip(settings["openclip"]) if "openclip" in settings else settings
    processor = Images(processor_class({"image_processor_type": name}, "clip")(**settings))
    dataset = Photographs()
    own = [processor.image(dataset.image(n)) for n in range(5)]
    expected = Passed(list(range(5)), b"".join(pixels.tobytes() for pixels in own), 0)
    dataset.asked = 0
    assert gone_through(dataset, processor) == expected
    assert gone_through(dataset, processor) == expected
    assert dataset.asked == 5
    pixels = sum(pixels.size for pixels in own)
    assert pixels < sum(path.stat().st_size for path in chunks(store)) < 1.01 * pixels


class Odd(Images):
    """Some of its values are not of the table: a little above, a negative zero, not a number."""

    def image(self, picture: Image.Image) -> np.ndarray:
        pixels = super().image(picture)
        match picture.getpixel((0, 0))[0] % 4:  # type: ignore[index]
            case 0:
                pixels[0, 0, 0] = np.nextafter(pixels[0, 0, 0], np.float32(9))
            case 1:
                pixels[1, 2, 3] = -0.0
            case 2:
                pixels[2, 7, 7] = np.nan
        return pixels


class Turned(Odd):
    """Its rows do not lie in memory in their order."""

    def image(self, picture: Image.Image) -> np.ndarray:
        return super().image(picture).transpose(0, 2, 1)


class Unasked(Turned):
    """A class that does not take what it is asked with."""

    def levels(self) -> None:
        return None


@pytest.mark.parametrize("kind", [Odd, Turned, Unasked])
def test_other_values_are_kept_as_they_are(kind: Any) -> None:
    processor, dataset = kind(small_clip(image_mean=[0, 0, 0])._images), Noise(30)
    expected = gone_through(dataset, processor, kept=False)
    dataset.asked.clear()
    assert gone_through(dataset, processor) == expected
    assert gone_through(dataset, processor) == expected
    assert sorted(dataset.asked) == list(range(30))


def test_a_processor_that_makes_one_value_of_all_is_kept_too() -> None:
    processor, dataset = small_clip(rescale_factor=0.0), Noise(5)
    assert gone_through(dataset, processor) == gone_through(dataset, processor, kept=False)


def test_bad_and_faint_pictures_are_those_of_each_pass_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    dataset, processor = Noise(20, bad=(2, 8, 9, 10, 11), flat=(0, 5, 19)), small_clip()
    with caplog.at_level(logging.WARNING):
        first, second = gone_through(dataset, processor), gone_through(dataset, processor)
    assert first == second
    assert first.indices == [n for n in range(20) if n not in dataset.bad]
    assert first.faint == 3
    assert [record.message.split()[1] for record in caplog.records] == ["s2", "s8", "s9", "s10", "s11"]


def test_too_many_bad_pictures_are_refused_in_the_same_words_by_each() -> None:
    dataset, processor, said = Noise(20, bad=(6, 7)), small_clip(), []
    for _ in range(2):
        with pytest.raises(BadSample) as caught:
            gone_through(dataset, processor, share=0.05)
        said.append(str(caught.value))
    with pytest.raises(BadSample) as caught:
        gone_through(dataset, processor, kept=False, share=0.05)
    assert said == [str(caught.value)] * 2
    assert "2 of 20 samples (10.0%) cannot be decoded; the first is file 6: broken" in said[0]


def test_pictures_of_different_sizes_are_refused_as_ever() -> None:
    with pytest.raises(BadBatch, match="different sizes"):
        gone_through(Photographs(), small_clip(do_resize=False, do_center_crop=False))


# --- going on --------------------------------------------------------------------------------------------------------


def test_a_stream_begins_where_it_is_asked_to() -> None:
    dataset, processor = Noise(20, bad=(1,)), small_clip()
    expected = gone_through(dataset, processor, kept=False, done=Done(10, 1))
    dataset.asked.clear()
    assert gone_through(dataset, processor, done=Done(10, 1)) == expected
    assert sorted(dataset.asked) == list(range(20))  # those before are kept for the next
    assert gone_through(dataset, processor, done=Done(10, 1)) == expected
    assert len(dataset.asked) == 20


def _dies_at_14(dataset: Noise, processor: Processor) -> None:
    for part in stream_pictures(dataset, processor, 3, keeper=spool(dataset, processor)):
        if 14 in part.indices:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_was_killed_is_gone_on_with(store: Store) -> None:
    dataset, processor = Noise(30), small_clip()
    expected = gone_through(dataset, processor, kept=False)
    child = multiprocessing.get_context("fork").Process(target=_dies_at_14, args=(dataset, processor))
    child.start()
    child.join()
    assert len(chunks(store)) == 4
    dataset.asked.clear()
    assert gone_through(dataset, processor) == expected
    assert sorted(dataset.asked) == list(range(16, 30))
    assert gone_through(dataset, processor) == expected
    assert len(dataset.asked) == 14


def _cut(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [_cut, Path.unlink])
def test_what_is_torn_or_missing_is_decoded_again(harm: Any, store: Store) -> None:
    dataset, processor = Noise(20), small_clip()
    expected = gone_through(dataset, processor)
    harm(chunks(store)[2])
    dataset.asked.clear()
    assert gone_through(dataset, processor) == expected
    assert sorted(dataset.asked) == list(range(8, 20))


def test_pictures_of_another_set_are_not_used(store: Store) -> None:
    processor = small_clip()
    gone_through(Noise(20), processor)
    other = Noise(20, name="other")
    other.samples = [*Noise(4).samples, *other.samples[4:]]
    expected = gone_through(other, processor, kept=False)
    other.asked.clear()
    assert gone_through(other, processor) == expected
    assert sorted(other.asked) == list(range(4, 20))
    assert chunks(store) == []


def test_sets_processors_and_packages_have_spools_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, processor = Noise(3), small_clip()
    others = [
        (PREPROCESS.model_copy(update={"digest": digest("other")}), DATA),
        (PREPROCESS, DATA.model_copy(update={"digest": digest("other")})),
    ]
    keys = {PictureSpool(*other, dataset, processor)._partial.key for other in others}  # type: ignore[arg-type]
    keys.add(spool(dataset, processor)._partial.key)
    monkeypatch.setattr(steps, "package_version", lambda name: f"{name} of tomorrow")
    keys.add(spool(dataset, processor)._partial.key)
    assert len(keys) == 4


# --- several at once, room, and the end ------------------------------------------------------------------------------


def test_of_two_at_once_one_keeps_and_the_other_decodes_for_itself(store: Store) -> None:
    dataset, processor = Noise(20), small_clip()
    expected = gone_through(dataset, processor, kept=False)
    with closing(stream_pictures(dataset, processor, 3, keeper=spool(dataset, processor))) as first:
        parts = [next(first)]
        dataset.asked.clear()
        assert gone_through(dataset, processor) == expected
        assert set(dataset.asked) == set(range(20))
        discard_pictures(PREPROCESS, DATA)  # another run's end
        assert len(chunks(store)) >= 1
        parts += first
    assert b"".join(part.pixel_values.tobytes() for part in parts) == expected.pixels
    dataset.asked.clear()
    assert gone_through(dataset, processor) == expected
    assert dataset.asked == []
    assert list((store.root / "locks").iterdir()) == []


def test_no_more_than_a_chunk_is_decoded_before_the_first_batch(store: Store) -> None:
    dataset, processor = Noise(400), small_clip()
    for _ in range(2):
        with closing(stream_pictures(dataset, processor, 2, prefetch=1, keeper=spool(dataset, processor))) as stream:
            next(stream)
    assert len(dataset.asked) <= 12  # a chunk, and twice two ahead of it
    assert len(chunks(store)) == 1


@pytest.mark.parametrize("free", [0, 2 * 20 * 192 - 1])
def test_without_room_pictures_are_decoded_for_each_and_it_is_said_once(
    free: int, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, processor = Noise(20), small_clip()
    expected = gone_through(dataset, processor, kept=False)
    monkeypatch.setattr(fs, "free_bytes", lambda _: free)
    dataset.asked.clear()
    for _ in range(2):
        assert gone_through(dataset, processor) == expected
        assert gone_through(dataset, processor, done=Done(15, 0)).indices == list(range(15, 20))
    assert len(dataset.asked) == 2 * (20 + 5)
    assert chunks(store) == []
    assert [record.message for record in caplog.records] == [
        "the pictures of noise are not kept, and decoded for each precision and engine: 0 MB are needed, 0 MB are free"
    ]


def test_with_as_much_room_as_is_asked_for_they_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fs, "free_bytes", lambda _: 2 * 20 * 3 * 8 * 8)
    gone_through(Noise(20), small_clip())
    assert len(chunks(store)) == 5


def test_a_disk_that_becomes_full_ends_keeping_and_not_the_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, processor = Noise(20), small_clip()
    expected = gone_through(dataset, processor, kept=False)
    write = fs.write_file
    written: list[Path] = []

    def full(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, data)

    monkeypatch.setattr(fs, "write_file", full)
    assert gone_through(dataset, processor) == expected
    assert chunks(store) == []
    assert ["disk is full" in record.message for record in caplog.records] == [True]


def test_what_is_discarded_or_left_by_the_dead_is_gone(store: Store) -> None:
    dataset, processor = Noise(5), small_clip()
    gone_through(dataset, processor)
    assert collect(store).leftovers == ()
    discard_pictures(PREPROCESS, DATA)
    discard_pictures(PREPROCESS, DATA)
    assert chunks(store) == []
    gone_through(dataset, processor)
    store.close()  # as its process's death does
    assert len(collect(store).leftovers) == 1
    assert chunks(store) == []
