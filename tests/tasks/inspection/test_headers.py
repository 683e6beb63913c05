"""Headers say what Pillow says, without decoding; what a run would leave out has a run's own reason."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image, ImageFile

from artifacts.errors import BadSample
from tasks.data import open_dataset
from tasks.data.base import Dataset
from tasks.inspection.headers import NO_FILE, Header, Unreadable, read_headers
from tests.tasks.data.support import write_tar

MODES = [
    ("RGB", "PNG"),
    ("L", "JPEG"),
    ("P", "GIF"),
    ("RGBA", "WEBP"),
    ("CMYK", "JPEG"),
    ("1", "TIFF"),
    ("I;16", "PNG"),
]


def file(mode: str, kind: str, size: tuple[int, int] = (21, 13)) -> bytes:
    pixels = np.random.default_rng(len(mode)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else picture.convert(mode)
    if mode == "RGBA":
        picture.putalpha(7)
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is that large, and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def in_folder(root: Path, files: list[bytes]) -> str:
    root.mkdir()
    for number, data in enumerate(files):
        (root / f"{number}.img").write_bytes(data)
    lines = "".join(f"{number}.img,caption {number}\n" for number in range(len(files)))
    (root / "captions.csv").write_text("file,caption\n" + lines)
    return str(root)


def in_shards(root: Path, files: list[bytes]) -> str:
    members = [(f"s{n:03}.{kind}", data) for n, one in enumerate(files) for kind, data in (("png", one), ("txt", b"a"))]
    write_tar(root / "test" / "0.tar", members)
    return f"wds:{root}"


def in_table(root: Path, files: list[bytes]) -> str:
    cells = [{"bytes": data, "path": None} for data in files]
    kinds = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    datasets.Dataset.from_dict({"image": cells, "text": ["a"] * len(files)}, features=kinds).save_to_disk(str(root))
    return str(root)


def headers(dataset: Dataset) -> list[Header | Unreadable]:
    return list(read_headers(dataset, range(len(dataset.samples)), lambda _: None))


@pytest.mark.parametrize("layout", [in_folder, in_shards, in_table])
def test_headers_are_pillows_in_every_layout(layout: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [file(mode, kind) for mode, kind in MODES]
    files[0] = files[0][: len(files[0]) // 2]  # cut off, which a header does not show
    dataset = open_dataset(layout(tmp_path / "set", files), "evaluation")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("a picture is decoded"))
    monkeypatch.setattr(type(dataset), "image", lambda *_: pytest.fail("a picture is decoded"))
    assert headers(dataset) == [Header(21, 13, mode, kind) for mode, kind in MODES]


def test_what_a_run_leaves_out_has_its_reason(tmp_path: Path) -> None:
    files = [file("RGB", "PNG"), b"", b"<html>", bomb(30_000, 30_000), file("RGB", "PNG", (400, 2)), bomb(9000, 9000)]
    dataset = open_dataset(in_folder(tmp_path / "set", files), "evaluation")
    found = headers(dataset)
    assert found[0] == Header(21, 13, "RGB", "PNG")
    for index in range(1, len(files)):
        with pytest.raises(BadSample) as refused:
            dataset.image(index)
        header = found[index]
        assert isinstance(header, Unreadable)
        if "identify" in str(refused.value):
            assert header.why == "the image cannot be decoded: not an image file of a known format"
        else:
            assert header.why == refused.value.what
    for index, words in ((3, "exceeds limit"), (4, "400 x 2"), (5, "9000 x 9000")):
        assert words in found[index].why  # type: ignore[union-attr]


def test_made_pictures_have_no_format() -> None:
    assert headers(open_dataset("digits", "evaluation", 3)) == [Header(32, 32, "RGB", NO_FILE)] * 3


def test_how_far_it_is_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.inspection.headers._AT_ONCE", 4)
    told: list[int] = []
    assert len(list(read_headers(open_dataset("digits", "evaluation", 10), range(10), told.append))) == 10
    assert told == [4, 4, 2]
