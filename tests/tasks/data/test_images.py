"""Every mode has one defined conversion; what cannot be decoded safely is a BadSample that names the file."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile
from skimage import data as pictures
from sklearn.datasets import load_sample_images

from artifacts.errors import BadSample, ClipsmithError, DataError
from tasks.data import images
from tasks.data.base import Encoded
from tasks.data.images import MAX_ASPECT, MAX_PIXELS, decode_rgb, decode_unchanged, has_contrast


@pytest.fixture
def astronaut() -> Image.Image:
    return Image.fromarray(pictures.astronaut()).resize((64, 48))


def encode(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def pixels(data: bytes) -> np.ndarray:
    picture = decode_rgb(data, "test")
    assert picture.mode == "RGB"
    return np.asarray(picture)


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header asks for a size that its one compressed byte does not have."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


# --- conversions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "GIF", "JPEG", "WEBP"])
def test_formats_give_the_picture(astronaut: Image.Image, form: str) -> None:
    got = pixels(encode(astronaut, form)).astype(int)
    tolerance = {"JPEG": 12, "WEBP": 12, "GIF": 12}.get(form, 0)
    assert np.abs(got - np.asarray(astronaut).astype(int)).mean() <= tolerance


def test_photographs_decode_as_pillow_does() -> None:
    for photograph in load_sample_images().images:
        stored = encode(Image.fromarray(photograph), "JPEG")
        np.testing.assert_array_equal(pixels(stored), np.asarray(Image.open(io.BytesIO(stored)).convert("RGB")))


def test_path_and_bytes_give_the_same(astronaut: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(astronaut, "PNG"))
    np.testing.assert_array_equal(np.asarray(decode_rgb(path, "a.png")), pixels(path.read_bytes()))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(astronaut: Image.Image, form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = pixels(encode(astronaut, form, exif=exif)).astype(int)
    wanted = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
        8: np.rot90,
    }[orientation](np.asarray(astronaut).astype(int))
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).mean() < 8


def test_unknown_orientation_is_ignored(astronaut: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    np.testing.assert_array_equal(pixels(encode(astronaut, "PNG", exif=exif)), np.asarray(astronaut))


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_first_of_several_frames(form: str) -> None:
    red, blue = (Image.new("RGB", (20, 10), color) for color in ("red", "blue"))
    options = {"lossless": True} if form == "WEBP" else {}
    stored = encode(red, form, save_all=True, append_images=[blue], **options)
    assert np.abs(pixels(stored).astype(int) - (255, 0, 0)).max() <= 1  # MPO is JPEG


def test_cmyk() -> None:
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert (pixels(encode(ink, "TIFF")) == (255, 0, 0)).all()
    assert np.abs(pixels(encode(ink, "JPEG", quality=100)).astype(int) - (255, 0, 0)).max() <= 4


def test_palette(astronaut: Image.Image) -> None:
    painted = astronaut.quantize(16)
    np.testing.assert_array_equal(pixels(encode(painted, "PNG")), np.asarray(painted.convert("RGB")))


@pytest.mark.parametrize("transparency", [0, bytes([0, 128])])
def test_palette_keeps_the_colours_of_what_is_transparent(transparency: Any) -> None:
    """As transformers' processors see it: Pillow's conversion to RGB drops transparency."""
    painted = Image.new("P", (4, 2), 0)
    painted.putpalette([0, 30, 0, 200, 10, 10])
    painted.putpixel((0, 0), 1)
    got = pixels(encode(painted, "PNG", transparency=transparency))
    assert tuple(got[0, 0]) == (200, 10, 10)
    assert (got[1] == (0, 30, 0)).all()


@pytest.mark.parametrize(
    ("mode", "color", "wanted"),
    [
        ("RGBA", (0, 0, 255, 0), (0, 0, 255)),
        ("RGBA", (0, 0, 255, 255), (0, 0, 255)),
        ("RGBA", (0, 0, 255, 51), (0, 0, 255)),
        ("LA", (9, 0), (9, 9, 9)),
        ("LA", (9, 51), (9, 9, 9)),
        ("L", 7, (7, 7, 7)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_alpha_and_grey(mode: str, color: Any, wanted: tuple[int, int, int]) -> None:
    assert (pixels(encode(Image.new(mode, (3, 3), color), "PNG")) == wanted).all()


def test_grey_keeps_a_value_that_is_transparent() -> None:
    assert (pixels(encode(Image.new("L", (3, 3), 9), "PNG", transparency=9)) == 9).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(form: str) -> None:
    deep = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    assert pixels(encode(Image.fromarray(deep), form))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_photograph_is_its_8_bit_version() -> None:
    camera = pictures.camera()[::8, ::8]
    got = pixels(encode(Image.fromarray(camera.astype(np.uint16) * 257), "PNG"))
    np.testing.assert_array_equal(got[..., 1], camera)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0, 65535]], dtype=np.int32), [0, 255]),
        (np.array([[0, 1_000_000, 2_000_000]], dtype=np.int32), [0, 128, 255]),
        (np.array([[-100, 0, 100]], dtype=np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[-4.0, 4.0]], dtype=np.float32), [0, 255]),
        (np.array([[9.0, 9.0]], dtype=np.float32), [0, 0]),
    ],
)
def test_deeper_grey(values: np.ndarray, wanted: list[int]) -> None:
    assert pixels(encode(Image.fromarray(values), "TIFF"))[0, :, 2].tolist() == wanted


def test_nan_pixels_are_refused() -> None:
    with pytest.raises(BadSample, match="NaN"):
        decode_rgb(encode(Image.fromarray(np.array([[np.nan, 1.0]], dtype=np.float32)), "TIFF"), "nan.tif")


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (lambda grey: grey * 257, True),  # 16 bits
        (lambda grey: grey * 64, True),  # 14 bits in 16
        (lambda grey: grey * 16, False),  # 12 bits in 16
        (lambda grey: grey * 4, False),  # 10 bits in 16
        (lambda grey: grey, False),  # 8 bits in 16
        (lambda grey: grey.astype(np.int32), False),  # 0 to 255 in 32 bits
        (lambda grey: grey.astype(np.float32), True),  # stretched
        (lambda grey: (grey / 255).astype(np.float32), True),
        (lambda grey: (grey > 127).astype(np.uint8), False),  # 0 and 1 in 8 bits
        (lambda grey: grey > 127, True),  # 1 bit
        (lambda grey: 250 + grey % 5, False),  # next to white
    ],
)
def test_pictures_with_next_to_no_contrast_are_noticed(stored: Any, wanted: bool) -> None:
    grey = pictures.camera()[::4, ::4].astype(np.uint16)
    file = encode(Image.fromarray(stored(grey)), "TIFF")
    assert has_contrast(decode_rgb(file, "a.tif")) is wanted


def test_one_bright_spot_is_contrast() -> None:
    picture = Image.new("RGB", (1000, 700))
    assert not has_contrast(picture)
    picture.putpixel((501, 333), (0, 17, 0))
    assert has_contrast(picture)
    assert not has_contrast(Image.new("RGB", (1, 1), "red"))


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "AVIF"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.97])
def test_truncated(astronaut: Image.Image, form: str, kept: float) -> None:
    stored = encode(astronaut, form)
    with pytest.raises(BadSample) as caught:
        decode_rgb(stored[: int(len(stored) * kept)], "photos/broken.file")
    assert caught.value.where == "photos/broken.file"
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff", b"GIF89a"])
def test_not_an_image(data: bytes) -> None:
    with pytest.raises(BadSample, match=r"where: noise\.jpg"):
        decode_rgb(data, "noise.jpg")


@pytest.mark.parametrize(
    ("data", "what", "fix"),
    [
        (b"", "the file is empty", "replace"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer", "git lfs pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture", "convert it to JPEG"),
        (b"<?xml version='1.0'?>\n<svg width='9'/>", "an SVG drawing", "as PNG"),
        (b"<!DOCTYPE HTML><title>404</title>", "a web page", "replace"),
        (b"\x93NUMPY\1\0", "none of the known formats", "replace"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, what: str, fix: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    for given in (data, tmp_path / "a.jpg"):
        with pytest.raises(BadSample, match=f"cannot be decoded: {what}") as caught:
            decode_rgb(given, "a.jpg")
        assert fix in (caught.value.fix or "")
        assert "0x" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadSample, match="No such file"):
        decode_rgb(tmp_path / "nothing.png", "nothing.png")


def test_formats_that_run_programs_are_refused(astronaut: Image.Image) -> None:
    with pytest.raises(BadSample):
        decode_rgb(encode(astronaut, "EPS"), "script.eps")


@pytest.mark.parametrize("size", [(MAX_PIXELS // 1000 + 1, 1000), (40_000, 40_000), (MAX_ASPECT + 1, 1)])
def test_bomb_is_refused_before_decoding(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(BadSample, match="decompression bomb") as caught:
        decode_rgb(png_header(*size), "bomb.png")
    assert caught.value.where == "bomb.png"


def test_pillow_warning_made_an_error_is_a_bomb_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with pytest.raises(BadSample, match="decompression bomb"):
            decode_rgb(png_header(10_000, 10_000), "bomb.png")


def test_largest_size_is_not_a_bomb() -> None:
    with pytest.raises(BadSample) as caught:
        decode_rgb(png_header(MAX_PIXELS // 1000, 1000), "large.png")
    assert "bomb" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on damaged tags
def test_random_damage_gives_a_picture_or_a_bad_sample(astronaut: Image.Image) -> None:
    generator = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000"):
        stored = np.frombuffer(encode(astronaut, form), dtype=np.uint8)
        for _ in range(150):
            damaged = stored.copy()
            places = generator.integers(0, min(len(damaged), int(generator.choice([64, 300, 10**6]))), size=3)
            damaged[places] = generator.integers(0, 256, size=3)
            try:
                assert decode_rgb(damaged.tobytes(), form).mode == "RGB"
            except ClipsmithError as error:
                assert type(error) is BadSample


def test_bytes_that_changed_are_not_a_bad_sample_but_a_changed_set(astronaut: Image.Image) -> None:
    stored = encode(astronaut, "PNG")
    digest = hashlib.sha256(stored).hexdigest()
    assert decode_unchanged(Encoded(stored, digest, "a.png")).size == astronaut.size
    with pytest.raises(DataError, match="changed") as caught:
        decode_unchanged(Encoded(stored + b"\0", digest, "a.png"))
    assert not isinstance(caught.value, BadSample)


def test_every_allowed_format_can_be_read_here() -> None:
    assert images.formats() == images.FORMATS
