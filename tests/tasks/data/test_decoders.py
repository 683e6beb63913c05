"""Pictures come back from other processes as from threads of this one, and what goes wrong there is told here."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as pictures

from artifacts.errors import BadBatch, BadSample, DataChanged, DecoderCrash
from tasks.checkpoints.preprocess import Processor
from tasks.data import batches
from tasks.data.base import Encoded
from tasks.data.batches import Pictures, stream_pictures
from tasks.data.decoders import decoders
from tasks.data.folder import Folder
from tasks.data.loading import Loaded, Loader
from tasks.data.packing import Packing
from tasks.demo import SNAPSHOT
from tasks.families import family_named

ROOT = Path(__file__).parents[3]


class Plain:
    """Pixels as they are; a text is its length."""

    def image(self, picture: Image.Image, /) -> np.ndarray:
        return np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)

    def text(self, captions: list[str], /) -> tuple[np.ndarray, None]:
        return np.array([[len(caption)] for caption in captions]), None


class Grey(Plain):
    """Of the wrong form."""

    def image(self, picture: Image.Image, /) -> np.ndarray:
        return np.asarray(picture, dtype=np.float32)[:, :, 0]


class Fatal(Plain):
    """Dies, or fails as no library should, of pictures of a size."""

    def image(self, picture: Image.Image, /) -> np.ndarray:
        if picture.width == 5:
            print("out of luck", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if picture.width == 6:
            raise ZeroDivisionError("six")
        return super().image(picture)


def encoded(width: int = 4, red: int = 0) -> Encoded:
    from hashlib import sha256

    stream = io.BytesIO()
    Image.new("RGB", (width, 4), (red, 0, 0)).save(stream, "PNG")
    return Encoded(stream.getvalue(), sha256(stream.getvalue()).hexdigest(), f"{width}.png")


def processor() -> Processor:
    return Processor(SNAPSHOT, family_named("clip"), context=16, masked=False)


@pytest.fixture
def photographs(tmp_path: Path) -> Folder:
    """Twelve JPEGs of different sizes, of which one is cut off and one is grey."""
    rows = ["file,caption"]
    for number, name in enumerate(("astronaut", "chelsea", "coffee", "rocket") * 3):
        picture = Image.fromarray(getattr(pictures, name)()).resize((200 + 16 * number, 180))
        if number == 7:
            picture = Image.new("RGB", (200, 180), (9, 9, 9))
        picture.save(tmp_path / f"{number}.jpg")
        rows.append(f"{number}.jpg,{name} {number}")
    (tmp_path / "5.jpg").write_bytes((tmp_path / "5.jpg").read_bytes()[:2000])
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    return Folder(tmp_path)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host of many cores, with a long set."""
    monkeypatch.setattr(batches, "_PROCESSES", 2)
    monkeypatch.setattr(batches, "_LONG", 1)


def stream(data: Folder) -> list[Pictures]:
    return list(stream_pictures(data, _Both(processor()), 4, max_bad_share=0.1))


class _Both(Plain):
    """The demo's processor as a preprocessor."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def image(self, picture: Image.Image, /) -> np.ndarray:
        return self._processor.image(picture)


def test_a_stream_is_the_same_whoever_decodes(
    photographs: Folder, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    here = stream(photographs)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    caplog.clear()
    request.getfixturevalue("elsewhere")
    there = stream(photographs)
    assert [record.getMessage() for record in caplog.records] == told
    assert [part.indices for part in here] == [[0, 1, 2, 3], [4, 6, 7, 8], [9, 10, 11]]
    assert [part.faint for part in here] == [0, 1, 0]
    for one, other in zip(here, there, strict=True):
        assert (one.indices, one.faint) == (other.indices, other.faint)
        assert one.pixel_values.tobytes() == other.pixel_values.tobytes()


@pytest.mark.usefixtures("elsewhere")
def test_the_processes_decode_and_end_with_the_stream(photographs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "image", None)  # nobody decodes here
    parts = stream_pictures(photographs, Plain(), 1)
    assert next(parts).indices == [0]
    assert len(decoding()) == 1
    parts.close()
    assert decoding() == []


def children(parent: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    return [int(pid) for file in Path(f"/proc/{parent}/task").glob("*/children") for pid in file.read_text().split()]


def decoding() -> list[int]:
    """The processes of this one that decode."""
    return [pid for pid in children(os.getpid()) if b"tasks.data.decoders" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_packed_pixels_travel_packed() -> None:
    packing = Packing(np.tile(np.arange(256, dtype=np.float32), (3, 1)))
    with decoders(Loader(Plain(), packing), 1) as others:
        loaded = others.load(encoded(40, red=77))
    assert loaded.pixels.dtype == np.uint8
    with Image.open(io.BytesIO(encoded(40, red=77).data)) as picture:
        assert packing.unpacked(loaded.pixels).tobytes() == Plain().image(picture).tobytes()


def test_what_goes_wrong_there_is_raised_here() -> None:
    good = encoded()
    with decoders(Loader(Fatal()), 1) as others:
        with pytest.raises(BadSample, match="empty") as bad:
            others.load(good._replace(data=b"", image_hash=EMPTY))
        assert bad.value.where == "4.png"
        with pytest.raises(DataChanged, match="the image changed"):
            others.load(good._replace(image_hash=EMPTY))
        with pytest.raises(ZeroDivisionError, match="six"):
            others.load(encoded(6))
        assert isinstance(others.load(good), Loaded)  # it goes on
    with decoders(Loader(Grey()), 1) as others, pytest.raises(BadBatch, match=r"gave float32 \[4, 4\]"):
        others.load(good)


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_process_that_dies_is_told_with_the_picture_and_its_last_words() -> None:
    with decoders(Loader(Fatal()), 2) as others:
        with pytest.raises(DecoderCrash, match="died") as caught:
            others.load(encoded(5))
        assert caught.value.where == "5.png"
        assert "out of luck" in str(caught.value.fix)
        answers = []
        for _ in range(2):  # the one that is left answers; the dead one says so again
            try:
                answers.append(type(others.load(encoded())))
            except DecoderCrash:
                answers.append(DecoderCrash)
        assert sorted(kind.__name__ for kind in answers) == ["DecoderCrash", "Loaded"]


@pytest.mark.usefixtures("elsewhere")
def test_a_stream_ends_with_the_crash(photographs: Folder) -> None:
    with pytest.raises(DecoderCrash):
        list(stream_pictures(photographs, Dying(), 4, max_bad_share=1))
    assert decoding() == []


class Dying(Plain):
    """Dies of every picture."""

    def image(self, _picture: Image.Image, /) -> np.ndarray:
        os._exit(3)


def test_what_cannot_begin_is_told_at_the_first_picture() -> None:
    with decoders(Loader(Unreadable()), 1) as others, pytest.raises(DecoderCrash) as caught:
        others.load(encoded())
    assert "cannot be read there" in str(caught.value.fix)


class Unreadable(Plain):
    """Cannot be made again in another process."""

    def __reduce__(self) -> tuple[object, ...]:
        return _fail, ()


def _fail() -> None:
    raise ValueError("cannot be read there")


def test_none_outlives_a_killed_run(tmp_path: Path) -> None:
    """The connections are all that holds them."""
    program = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}]
from tests.tasks.data.test_decoders import Plain, encoded
from tasks.data.decoders import decoders
from tasks.data.loading import Loader
with decoders(Loader(Plain()), 2) as others:
    others.load(encoded())
    print("at work", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "at work\n"
        (first,) = children(run.pid)
        others = children(first)
        assert len(others) == 2
        run.kill()
    for _ in range(600):
        alive = [pid for pid in (first, *others) if Path(f"/proc/{pid}").exists()]
        if not alive:
            break
        time.sleep(0.1)
    assert alive == []


def test_a_picture_that_is_drawn_is_drawn_here(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.data.digits import Digits

    monkeypatch.setattr(batches, "_PROCESSES", 2)
    monkeypatch.setattr(batches, "_LONG", 1)
    monkeypatch.setattr(batches, "decoders", None)
    (part,) = stream_pictures(Digits("evaluation", 5), Plain(), 8)
    assert part.indices == [0, 1, 2, 3, 4]
