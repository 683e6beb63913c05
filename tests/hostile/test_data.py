"""Bad inputs 7 to 18: damaged, huge, odd, empty, few, shared and identical pictures; captions; arrays."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import resource
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFile
from skimage import data as pictures

from artifacts.errors import BadSample, CheckpointError, DataError, WrongInput
from artifacts.store.store import Store
from tasks.data import open_dataset
from tasks.data.batches import stream_batches
from tasks.data.images import MAX_PIXELS, decode_rgb
from tasks.data.pinned import DataRef, pin_data
from tests.hostile.support import Bad, Workshop, check_complete, digits, set_values
from tests.wording import refusal

Refuse = Callable[[Bad], None]


def jpeg(seed: int = 0) -> bytes:
    """A photograph, another one for each seed."""
    stream = io.BytesIO()
    left = 4 * seed
    Image.fromarray(pictures.astronaut()[:64, left : left + 64]).save(stream, "JPEG")
    return stream.getvalue()


def flipped_unnoticed(data: bytes) -> bytes:
    """The first flip of a bit in the second half that gives another picture and no complaint."""
    good = np.asarray(decode_rgb(data, "good"))
    for place in range(len(data) // 2, len(data) - 2):
        flipped = bytearray(data)
        flipped[place] ^= 4
        try:
            picture = np.asarray(decode_rgb(bytes(flipped), "flipped"))
        except BadSample:
            continue
        if picture.shape == good.shape and (picture != good).any():
            return bytes(flipped)
    raise AssertionError("every flip was noticed")


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        (folder / f"{index}.jpg").write_bytes(jpeg(index))
    write_captions(folder, [(f"{index}.jpg", f"a photo of the digit number {index}") for index in range(count)])
    return folder


def write_captions(folder: Path, rows: list[tuple[str, str]]) -> None:
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("file", "caption"), *rows])


def calibrated(folder: Path, clip: Path, store: Store, encoder: Any) -> Any:
    """The calibration step on a folder of pictures."""
    from tasks.pipeline.calibration import calibrate
    from tasks.pipeline.checkpoint import check, resolve
    from tasks.quantizing.recipe import load_recipe

    snapshot = resolve(str(clip), None, store)
    data, _ = pin_data(str(folder), "calibration", None)
    return calibrate(snapshot, check(snapshot).preprocess, data, load_recipe("fp8"), encoder, 32)


class Plain:
    """A preprocessor without a model: every picture to the same small array."""

    def image(self, _picture: Image.Image) -> np.ndarray:
        return np.zeros((3, 2, 2), np.float32)

    def text(self, captions: list[str]) -> tuple[np.ndarray, None]:
        return np.zeros((len(captions), 4), np.int64), None


# --- pictures ----------------------------------------------------------------------------------------------


def test_07_truncated_jpeg_is_counted(tmp_path: Path, small_clip: Path, active: Store) -> None:
    folder = photos(tmp_path / "photos", 100)
    (folder / "41.jpg").write_bytes(jpeg(41)[:600])
    result = calibrated(folder, small_clip, active, "image")
    assert (result.samples, result.skipped) == (99, 1)
    used = pd.read_parquet(active.path(result.table, "samples.parquet"))
    assert "41.jpg" not in set(used["id"]) and len(used) == 99


def test_07_too_many_truncated_jpegs(shop: Workshop, refuse: Refuse) -> None:
    folder = photos(shop.root / "photos", 100)
    for index in (41, 97):
        (folder / f"{index}.jpg").write_bytes(jpeg(index)[:600])
    arguments = ["demo", "--calibration", folder, "--targets", "onnxruntime"]
    refuse(Bad(arguments, "BadSample", ["2 of 100 samples (2.0%)", "41.jpg", "truncated", "at most 1.0%"]))


def test_08_bit_flipped_jpeg_that_still_decodes(tmp_path: Path, small_clip: Path, active: Store) -> None:
    """Pillow notices few flips: the set is hashed, and the hash of every picture that was used is kept."""
    folder = photos(tmp_path / "photos", 8)
    pinned, _ = pin_data(str(folder), "calibration", None)
    kept = active.path(calibrated(folder, small_clip, active, "text").table, "samples.parquet")
    hashes = dict(pd.read_parquet(kept)[["id", "image_hash"]].itertuples(index=False))
    assert hashes == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.jpg")}
    (folder / "3.jpg").write_bytes(flipped_unnoticed(jpeg(3)))
    assert pin_data(str(folder), "calibration", None)[0].digest != pinned.digest
    with refusal(DataError, "photos") as caught:
        pinned.open()
    check_complete(caught.value, str(folder))


def test_08_bit_flipped_after_the_set_was_opened(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 8)
    dataset = open_dataset(str(folder), "calibration")
    (folder / "3.jpg").write_bytes(flipped_unnoticed(jpeg(3)))
    with pytest.raises(DataError, match="changed after") as caught:
        list(stream_batches(dataset, Plain(), 4, max_bad_share=1.0))
    check_complete(caught.value, "3.jpg", hashlib.sha256(jpeg(3)).hexdigest())


def _bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred kB that decodes to gigabytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 10_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(40_000, 40_000), (MAX_PIXELS // 8000 + 1, 8000), (1_000_000, 1)])
def test_09_decompression_bomb(width: int, height: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by our own limit, from the header: nothing is decoded. Pillow would only warn up to 179 megapixels."""
    folder = photos(tmp_path / "photos", 8)
    (folder / "5.png").write_bytes(_bomb(width, height))
    write_captions(folder, [("5.png", "five")])

    def decoded(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadSample, match="decompression bomb") as caught:
        open_dataset(str(folder), "calibration").image(0)
    check_complete(caught.value, "5.png", f"{MAX_PIXELS:,} pixels")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def _rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = Image.new("RGB", (4, 2), "red")
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def _animated(path: Path) -> None:
    Image.new("RGB", (4, 2), "red").save(path, save_all=True, append_images=[Image.new("RGB", (4, 2), "blue")])


RED = (255, 0, 0)
ODD: dict[str, tuple[Callable[[Path], None], tuple[int, int, int]]] = {
    "cmyk.tif": (lambda path: Image.new("CMYK", (4, 2), (0, 255, 255, 0)).save(path), RED),
    "palette.png": (lambda path: Image.new("RGB", (4, 2), RED).convert("P").save(path), RED),
    "alpha.png": (lambda path: Image.new("RGBA", (4, 2), (255, 0, 0, 128)).save(path), RED),
    "deep.png": (
        lambda path: Image.fromarray(np.full((2, 4), 0x8000, np.uint16)).save(path),
        (128, 128, 128),
    ),
    "rotated.png": (_rotated, RED),
    "animated.gif": (_animated, RED),
}


@pytest.mark.parametrize("name", ODD)
def test_10_odd_picture_has_one_conversion(name: str, tmp_path: Path) -> None:
    """To upright 8-bit RGB of the first frame, without its alpha; 16 bits are scaled, not clipped."""
    make, color = ODD[name]
    make(tmp_path / name)
    write_captions(tmp_path, [(name, "a red field")])
    picture = open_dataset(str(tmp_path), "calibration").image(0)
    assert (picture.mode, picture.size) == ("RGB", (4, 2))
    assert (np.abs(np.asarray(picture).astype(int) - color) <= 1).all()


# --- sets --------------------------------------------------------------------------------------------------


def test_11_empty_calibration_set(shop: Workshop, refuse: Refuse) -> None:
    folder = shop.pictures("empty", 0)
    refuse(Bad(["demo", "--calibration", folder], "TooFewSamples", ["the data set is empty", str(folder)]))


def test_12_identical_images(shop: Workshop, refuse: Refuse) -> None:
    folder = shop.pictures("same", 12, same=True)
    refuse(Bad(["demo", "--calibration", folder], "DegenerateData", ["all 12 images are identical", str(folder)]))


def test_12_amax_of_zero(shop: Workshop, refuse: Refuse) -> None:
    """ModelOpt's export would make the largest scale of it: it is found before."""
    block = "vision_model.encoder.layers.1"

    def kill(tensors: dict[str, np.ndarray]) -> None:
        for part in ("weight", "bias"):
            set_values(tensors, f"{block}.layer_norm2.{part}", 0.0, 10**9)

    refuse(Bad(digits(shop.weights(kill)), "BadAmax", [f"{block}.mlp.fc1.input_quantizer is 0.0"]))


def test_13_too_few_samples(shop: Workshop, refuse: Refuse) -> None:
    folder = shop.pictures("seven", 7)
    refuse(Bad(["demo", "--calibration", folder], "TooFewSamples", ["only 7 of 8", str(folder)]))


def test_14_calibration_overlaps_evaluation(shop: Workshop, refuse: Refuse) -> None:
    first, second = shop.pictures("first", 12), shop.pictures("second", 10, seed=1)
    shutil.copyfile(first / "7.png", second / "3.png")
    arguments = ["demo", "--calibration", first, "--evaluation", second]
    refuse(Bad(arguments, "DataOverlap", ["1 of 10 evaluation samples", "3.png"]))


# --- captions ----------------------------------------------------------------------------------------------

LONG = "a photo of the digit seven " * 8


def _with_long_captions(folder: Path) -> Path:
    rows = [(f"{index}.jpg", f"the digit number {index}") for index in range(12)]
    rows[4] = ("4.jpg", f"4 {LONG}")
    rows[9] = ("9.jpg", f"9 {LONG}")
    write_captions(photos(folder, 12), rows)
    return folder


def test_15_caption_longer_than_the_context_is_counted(tmp_path: Path, small_clip: Path, active: Store) -> None:
    result = calibrated(_with_long_captions(tmp_path / "photos"), small_clip, active, "text")
    assert (result.samples, result.truncated) == (12, 2)


@pytest.mark.parametrize("role", ["calibration", "evaluation"])
def test_15_caption_longer_than_the_context_in_strict_mode(role: str, shop: Workshop, refuse: Refuse) -> None:
    folder = _with_long_captions(shop.root / "photos")
    config = shop.config(f"{role}: {{source: {folder}, strict_captions: true}}\n")
    words = [f"2 of 12 {role} texts are longer than the context", "'4 a photo of", str(folder), "16 tokens"]
    refuse(Bad(["demo", "--config", config, "--targets", "onnxruntime"], "CaptionTooLong", words))


def test_labels_that_are_one_text_to_the_model(shop: Workshop, refuse: Refuse) -> None:
    folder = photos(shop.root / "photos", 12)
    rows = [f"{index}.jpg,{LONG} {('one', 'two', 'three')[index % 3]}" for index in range(12)]
    (folder / "captions.csv").unlink()
    (folder / "labels.csv").write_text("\n".join(["file,label", *rows]))
    config = shop.config(f"evaluation: {{source: {folder}}}\n")
    words = ["are the same tokens to this model under every template", "one'", str(folder)]
    refuse(Bad(["demo", "--config", config, "--targets", "onnxruntime"], "DataError", words))


def test_16_invalid_utf8_names_the_line(shop: Workshop, refuse: Refuse) -> None:
    folder = shop.pictures("latin", 12)
    text = (folder / "captions.csv").read_bytes()
    (folder / "captions.csv").write_bytes(text.replace(b"number 6", "numéro 6".encode("latin1")))
    words = ["invalid UTF-8: byte 0xe9", f"{folder / 'captions.csv'}, line 8", "iconv"]
    refuse(Bad(["demo", "--calibration", folder], "DataError", words))


def test_17_empty_caption(shop: Workshop, refuse: Refuse) -> None:
    folder = shop.pictures("blank", 12)
    text = (folder / "captions.csv").read_text()
    (folder / "captions.csv").write_text(text.replace("a photo of the digit number 6", " "))
    refuse(Bad(["demo", "--calibration", folder], "DataError", ["empty caption", "line 8"]))


def test_17_tokenizer_without_an_end_token(shop: Workshop, refuse: Refuse) -> None:
    """CLIP would pool such a text at its first token, and every text would have the same embedding."""
    folder = shop.json("tokenizer.json", lambda content: content.update(post_processor=None))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # CLIPTokenizer brings a post-processor of its own
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    refuse(Bad(digits(folder), "CheckpointError", ["a short text without its end token 602", str(folder)]))


def test_17_no_end_token_after_truncation(small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer that cuts off the end token with the rest."""
    from tasks.checkpoints.preprocess import save_preprocess
    from tasks.clip.clip import Clip
    from tasks.families import family_named

    def tokenizer(self: Clip, folder: Path, config: Any) -> Any:
        made = Clip.__base__.tokenizer(self, folder, config)  # type: ignore[union-attr]

        class Careless:
            def __getattr__(self, name: str) -> Any:
                return getattr(made, name)

            def __call__(self, text: str, max_length: int, **_: Any) -> Any:
                return {"input_ids": made(text)["input_ids"][:max_length]}

        return Careless()

    monkeypatch.setattr(Clip, "tokenizer", tokenizer)
    config = json.loads((small_clip / "config.json").read_text())
    with refusal(CheckpointError, "small") as caught:
        save_preprocess(small_clip, family_named("clip"), config, tmp_path)
    check_complete(caught.value, str(small_clip))
    assert list(tmp_path.iterdir()) == []


# --- arrays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2, 3), np.float32), np.zeros((3, 2, 2), np.float64), np.zeros((1, 3, 2, 2), np.float32)]
)
def test_18_preprocessor_of_another_type_or_layout(pixels: np.ndarray, tmp_path: Path) -> None:
    class Odd(Plain):
        def image(self, _picture: Image.Image) -> np.ndarray:
            return pixels

    dataset = open_dataset(str(photos(tmp_path / "photos", 8)), "calibration")
    with pytest.raises(DataError, match="the preprocessor gave") as caught:
        list(stream_batches(dataset, Odd(), 4))
    check_complete(caught.value, "0.jpg", "float32 [3, H, W]")


IDS = np.ones((2, 16), np.int64)


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({"input_ids": IDS.astype(np.int32)}, ["input_ids is int32 [2, 16]", "int64 [batch, 16]"]),
        ({"input_ids": IDS.T}, ["input_ids is int64 [16, 2]"]),
        ({"input_ids": IDS[0]}, ["input_ids is int64 [16]"]),
        ({"input_ids": IDS.astype(">i8")}, ["input_ids is >i8 [2, 16]"]),
        ({"ids": IDS}, ["the inputs are ids", "expected: input_ids"]),
        ({}, ["the inputs are none", "expected: input_ids"]),
    ],
)
def test_18_engine_input_of_another_type_or_layout(feed: Any, words: list[str], good_onnx: Path) -> None:
    """A real session, and our check before it."""
    from tasks.engines import backend_for

    with (
        backend_for("onnxruntime").runner(good_onnx, "fp16 onnxruntime") as runner,
        pytest.raises(WrongInput) as caught,
    ):
        runner.infer(feed)
    check_complete(caught.value, *words)


def test_18_data_reference_of_another_form() -> None:
    with pytest.raises(ValueError, match="samples"):
        DataRef.model_validate({"spec": "digits", "role": "evaluation", "limit": None, "digest": "0" * 64})


def test_parquet_with_a_column_name_that_is_not_text(tmp_path: Path) -> None:
    """Found by fuzzing: Arrow reads the schema's bytes without looking at them."""
    import pyarrow
    from pyarrow import parquet

    from artifacts.errors import DataError
    from tasks.data.rows import read_table

    path = tmp_path / "metadata.parquet"
    parquet.write_table(pyarrow.table({"file_name": ["a.png"], "caption": ["a"]}), path)
    path.write_bytes(path.read_bytes().replace(b"caption", b"c\xe2ption"))
    with refusal(DataError, "metadata.parquet"):
        read_table(path, {"file_name", "caption"})
