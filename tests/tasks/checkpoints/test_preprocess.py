"""Pixels and tokens are those of the checkpoint's own processor, as transformers runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as pictures

from tasks.checkpoints.preprocess import Preprocess
from tasks.families import family_named

CONTEXT = 16


@pytest.fixture(scope="module")
def processor(small_clip: Path) -> Preprocess:
    return Preprocess(small_clip, family_named("clip"), json.loads((small_clip / "config.json").read_text()))


@pytest.mark.parametrize("size", [(32, 32), (100, 60), (31, 200), (5, 7)])
def test_pixels_are_transformers(size: tuple[int, int], processor: Preprocess, small_clip: Path) -> None:
    from transformers import CLIPImageProcessor

    picture = Image.fromarray(pictures.astronaut()).resize(size)
    pixels = processor.image(picture)
    expected = CLIPImageProcessor.from_pretrained(small_clip)(images=picture, return_tensors="np")["pixel_values"][0]
    assert (pixels.dtype, pixels.shape) == (np.float32, (3, 32, 32))
    np.testing.assert_allclose(pixels, expected, atol=1e-6)
    assert pixels.std() > 0.1


def test_pixels_by_hand(processor: Preprocess) -> None:
    """A picture of the model's size is neither resized nor cropped: only scaled and normalised."""
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    expected = ((values / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(processor.image(Image.fromarray(values)), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (100, 60)])
def test_levels_are_what_becomes_of_each_byte(size: tuple[int, int], processor: Preprocess) -> None:
    levels = processor.levels()
    assert levels is not None
    for value in range(0, 256, 15):
        pixels = processor.image(Image.new("RGB", size, (value, 255 - value, value // 2)))
        bytes_ = (value, 255 - value, value // 2)
        for channel in range(3):
            assert np.unique(pixels[channel]).tolist() == [levels[channel, bytes_[channel]]]


def test_a_class_that_cannot_be_asked_has_no_levels(processor: Preprocess, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_steps_of_its_own(**_: object) -> object:
        raise TypeError("got an unexpected keyword argument 'do_pad'")

    monkeypatch.setattr(processor, "_images", with_steps_of_its_own)
    assert processor.levels() is None


def test_tokens_are_padded_to_the_context(processor: Preprocess, small_clip: Path) -> None:
    from transformers import AutoTokenizer

    texts = ["a photo of the digit seven", "seven", ""]
    tokens, mask = processor.text(texts)
    assert mask is None
    assert (tokens.dtype, tokens.shape) == (np.int64, (3, CONTEXT))
    plain = AutoTokenizer.from_pretrained(small_clip)
    for row, text in zip(tokens, texts, strict=True):
        alone = plain(text)["input_ids"]
        assert list(row) == alone + [plain.pad_token_id] * (CONTEXT - len(alone))


def test_long_texts_keep_their_end_token_and_are_counted(processor: Preprocess, small_clip: Path) -> None:
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(small_clip)
    long = "a photo of the digit seven and " * 5
    (row,), _ = processor.text([long])
    assert row[-1] == plain.eos_token_id
    assert list(row[:-1]) == plain(long)["input_ids"][: CONTEXT - 1]
    assert processor.truncated([long, "seven", long]) == 2
    fits = next(n for n in range(1, 40) if len(plain("seven " * n)["input_ids"]) > CONTEXT) - 1
    assert processor.truncated(["seven " * fits]) == 0
    assert processor.truncated(["seven " * (fits + 1)]) == 1
    texts = ["seven " * length for length in range(fits - 2, fits + 4)]
    inputs, truncated = processor.counted_inputs(texts)
    assert truncated == 3
    np.testing.assert_array_equal(inputs["input_ids"], processor.text(texts)[0])


@pytest.mark.parametrize("masked", [False, True])
def test_counting_changes_no_input_and_tokenizes_again_what_fills_the_context(
    masked: bool, processor: Preprocess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "_masked", masked)
    texts = ["seven", "seven " * 40, "", "eight"]
    asked: list[list[str]] = []
    real = processor.too_long
    monkeypatch.setattr(processor, "too_long", lambda again: (asked.append(again), real(again))[1])
    inputs, truncated = processor.counted_inputs(texts)
    expected = processor.text_inputs(texts)
    assert list(inputs) == list(expected)
    for name, rows in expected.items():
        np.testing.assert_array_equal(inputs[name], rows)
    assert (truncated, asked) == (1, [[texts[1]]])
    assert processor.counted_inputs(["seven"])[1] == 0
    assert len(asked) == 1
