"""The shipped demo model keeps its promises, and the script that made it makes one that does."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import DataError
from tasks.data.digits import CLASSES, Digits
from tasks.demo import SNAPSHOT
from tasks.demo.augment import distort
from tasks.demo.train import EPOCHS, train
from tasks.demo.vocabulary import CONTEXT, learn_merges, learn_tokenizer
from tasks.demo.zero_shot import zero_shot_accuracy
from tests.thorough import amount

PROMPTS = [template.format(name) for template in CLASSES.templates for name in CLASSES.names]


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import CLIPModel

    return CLIPModel.from_pretrained(SNAPSHOT).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(SNAPSHOT)


def test_shipped_model_reads_held_out_digits() -> None:
    assert zero_shot_accuracy(SNAPSHOT, Digits("evaluation")) >= 0.97


def test_accuracy_needs_classes() -> None:
    digits = Digits("evaluation", limit=10)
    digits.classes = None
    with pytest.raises(DataError, match="no classes"):
        zero_shot_accuracy(SNAPSHOT, digits)


def test_snapshot_is_a_small_hugging_face_folder() -> None:
    files = {path.name: path.stat().st_size for path in SNAPSHOT.iterdir()}
    assert set(files) == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(files.values()) <= 5_000_000


def test_model_has_about_a_million_parameters(model: Any) -> None:
    assert 800_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 1_300_000


def test_weights_are_finite_and_no_bias_is_negligible(model: Any) -> None:
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
        if name.endswith(".bias"):
            assert parameter.abs().mean() > 0.01, name


def test_processor_loads_by_either_class_and_normalises() -> None:
    import torch
    from transformers import AutoProcessor, CLIPImageProcessorPil

    image = Digits("evaluation", limit=1).image(0)
    processor = CLIPImageProcessorPil.from_pretrained(SNAPSHOT)
    pixels = processor(image, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    black = -torch.tensor(processor.image_mean) / torch.tensor(processor.image_std)
    torch.testing.assert_close(pixels.amin(dim=(0, 2, 3)), black)
    whole = AutoProcessor.from_pretrained(SNAPSHOT)
    assert torch.equal(whole(images=image, return_tensors="pt")["pixel_values"], pixels)


def test_every_prompt_fits_the_context_with_a_token_a_word(tokenizer: Any) -> None:
    assert tokenizer.model_max_length == CONTEXT
    for prompt, tokens in zip(PROMPTS, tokenizer(PROMPTS)["input_ids"], strict=True):
        assert len(tokens) == len(prompt.split()) + 2 <= CONTEXT


def test_a_truncated_caption_keeps_its_end_token(tokenizer: Any) -> None:
    tokens = tokenizer("seven " * 100, truncation=True)["input_ids"]
    assert len(tokens) == CONTEXT
    assert (tokens[0], tokens[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


@pytest.mark.parametrize(
    "text", ["Grüße aus Köln", "日本語", "🙂 !?", "\x00\x7f", "$%&~", "", "x" * 50, "\u202e\ufeff"]
)
def test_any_text_encodes_without_unknown_tokens(text: str, tokenizer: Any) -> None:
    tokens = tokenizer(text)["input_ids"]
    assert tokens.count(tokenizer.unk_token_id) == 1  # the end token, which CLIP also takes for unknown bytes


def test_vocabulary_holds_every_byte_inside_and_at_the_end_of_a_word(tokenizer: Any) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = tokenizer.get_vocab()
    letters = ByteLevel.alphabet()
    assert len(letters) == 256
    assert all(letter in vocabulary and f"{letter}</w>" in vocabulary for letter in letters)
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert vocabulary["<|endoftext|>"] == max(vocabulary.values())


def test_text_features_are_pooled_at_the_end_token(model: Any, tokenizer: Any) -> None:
    import torch

    config = model.config.text_config
    assert (config.eos_token_id, config.bos_token_id) == (tokenizer.eos_token_id, tokenizer.bos_token_id)
    assert (config.vocab_size, config.max_position_embeddings) == (len(tokenizer), CONTEXT)
    short = tokenizer(["a handwritten two"], return_tensors="pt")["input_ids"]
    padded = tokenizer(["a handwritten two"], padding="max_length", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        features = [model.get_text_features(input_ids=tokens).pooler_output for tokens in (short, padded)]
        last = model.text_model(input_ids=short).last_hidden_state[:, -1]
        expected = model.text_projection(last)
    torch.testing.assert_close(features[0], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features[1], expected, atol=1e-5, rtol=1e-5)


def test_merges_take_the_most_frequent_pair_and_end_with_whole_words() -> None:
    merges = learn_merges(Counter({"ab": 1, "cab": 3, "x": 9}))
    assert merges == [("a", "b</w>"), ("c", "ab</w>")]


def test_shipped_tokenizer_is_the_one_the_prompts_give(tmp_path: Path) -> None:
    learn_tokenizer(PROMPTS).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (SNAPSHOT / name).read_bytes()


def test_distortion_keeps_shape_and_range_and_follows_the_seed() -> None:
    import torch

    pictures = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        first, other = distort(pictures), distort(pictures)
        torch.manual_seed(2)
        again = distort(pictures)
    assert first.shape == pictures.shape
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_reads_only_the_training_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = []

    class Recorded(Digits):
        def __init__(self, role: Any, limit: int | None = None) -> None:
            opened.append(role)
            super().__init__(role, limit)

    monkeypatch.setattr("tasks.demo.train.Digits", Recorded)
    monkeypatch.setattr("tasks.demo.train._fit", lambda *_: None)
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        train(tmp_path, seed=0)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    assert opened == ["calibration"]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in SNAPSHOT.iterdir()}


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_retraining_reaches_the_promised_accuracy(tmp_path: Path) -> None:
    """In a seventh of the epochs it is on its way: 77 %, chance is 10 %."""
    epochs, promised = amount((16, 0.6), (EPOCHS, 0.97))
    script = f"from tasks.demo import train; train.EPOCHS = {epochs}; train.main()"
    command = [sys.executable, "-c", script, "--out", str(tmp_path), "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "held-out zero-shot accuracy" in done.stdout
    assert zero_shot_accuracy(tmp_path, Digits("evaluation")) >= promised
