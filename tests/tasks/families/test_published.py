"""Texts are embedded as transformers embeds each alone, whatever tokenizer and configuration say of padding."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, processors

from artifacts.errors import CheckpointError
from artifacts.refs import ArtifactRef
from artifacts.store.store import Store, activate
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import Snapshot
from tasks.families import family_named
from tasks.pipeline.checkpoint import check, resolve
from tasks.quantizing.modelopt import load_plain
from tests.published import SWITCHES
from tests.tasks.families.support import (
    CONFIGS,
    EACH_NAME,
    SIGLIPS,
    cosines,
    plain_text_embeddings,
    save_checkpoint,
    save_processor,
    tensors,
)
from tests.wording import refusal

TEXTS = ["seven", "a photo of the digit seven", "", "a photo of the handwritten digit number seven, eight, nine " * 8]


@dataclass(frozen=True)
class Checked:
    """A checkpoint that the check step let through, and its text encoder's tokens and embeddings in FP32."""

    snapshot: Snapshot
    preprocess: ArtifactRef
    processor: Preprocess

    @classmethod
    def of(cls, folder: Path, store: Store) -> Checked:
        snapshot = resolve(str(folder), None, store)
        preprocess = check(snapshot).preprocess
        family = family_named(snapshot.family)
        return cls(snapshot, preprocess, Preprocess(store.path(preprocess), family, snapshot.config))

    def embed(self, texts: list[str]) -> np.ndarray:
        """As calibration and the FP32 reference do it."""
        model, family = load_plain(self.snapshot, "sdpa")
        with torch.no_grad():
            return family.encode(model, "text", *tensors(self.processor.text_inputs(texts))).numpy()


@pytest.fixture
def active(store: Store) -> Any:
    """The test's own store, active."""
    with activate(store):
        yield store


def test_switches_in_the_file_end_no_run(folder_of: Any, active: Store) -> None:
    folder = folder_of("clip")
    expected = Checked.of(folder, active).embed(TEXTS)
    config = json.loads((folder / "config.json").read_text())
    sections = {name: config[name] | SWITCHES for name in ("text_config", "vision_config")}
    (folder / "config.json").write_text(json.dumps(config | SWITCHES | sections))
    assert np.array_equal(Checked.of(folder, active).embed(TEXTS), expected)


# --- padding ------------------------------------------------------------------------------------------------


def settings(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def pads_left(folder: Path) -> None:
    """As people who also train language models save it."""
    settings(folder, padding_side="left")


def class_pads_left(folder: Path) -> None:
    """As the tokenizer of SigLIP 2, whose class pads on the left where the file says nothing of it."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *string.ascii_lowercase, ","]
    fast = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    fast.normalizer = normalizers.Replace(" ", "▁")
    fast.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    fast.add_special_tokens(tokens[:5])
    fast.save(str(folder / "tokenizer.json"))
    special = {f"{token[1:-1]}_token": token for token in tokens[:5]}
    content = {"tokenizer_class": "GemmaTokenizer", "model_max_length": 16, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))


def stores_padding(folder: Path) -> None:
    """`tokenizer.json` brings padding of its own with it, to the left and to eight tokens."""
    content = json.loads((folder / "tokenizer.json").read_text())
    names = {token["content"]: token["id"] for token in content["added_tokens"]}
    padding = json.loads((folder / "tokenizer_config.json").read_text())["pad_token"]
    content["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": names[padding],
        "pad_type_id": 0,
        "pad_token": padding,
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))


LEFT = [
    *(
        pytest.param(*name.values, change, marks=name.marks)
        for name in EACH_NAME
        for change in (pads_left, stores_padding)
    ),
    *((name, class_pads_left) for name in SIGLIPS),
]


@pytest.mark.parametrize(("name", "change"), LEFT)
def test_texts_are_padded_on_the_right_whatever_the_tokenizer_says(
    name: str, change: Callable[[Path], None], folder_of: Any, active: Store
) -> None:
    from transformers import AutoTokenizer

    folder = folder_of(name)
    change(folder)
    plain = AutoTokenizer.from_pretrained(folder)
    assert plain.padding_side == "left"
    checked = Checked.of(folder, active)
    context, made = checked.processor.context, checked.processor.text_inputs(TEXTS)
    for row, text in zip(made["input_ids"], TEXTS, strict=True):
        alone = plain(text, truncation=True, max_length=context)["input_ids"]
        assert list(row) == alone + [plain.pad_token_id] * (context - len(alone))
    if name not in SIGLIPS:  # they attend to their padding, as they were trained: no text stands alone
        assert cosines(checked.embed(TEXTS), plain_text_embeddings(folder, TEXTS, context)).min() >= 0.99999
    # What is handed on says so itself, for whoever loads it without clipsmith.
    handed_on = active.path(checked.preprocess)
    assert json.loads((handed_on / "tokenizer_config.json").read_text())["padding_side"] == "right"
    assert Tokenizer.from_file(str(handed_on / "tokenizer.json")).truncation["max_length"] == context
    tokenizer = AutoTokenizer.from_pretrained(handed_on)
    tokens = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=context)["input_ids"]
    assert np.array_equal(np.asarray(tokens), made["input_ids"])


def pads_with(folder: Path, token: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": token})
    tokenizer.save_pretrained(folder)


def clip_with(text: dict[str, Any], folder: Path) -> Path:
    config = CONFIGS["clip"]
    save_checkpoint(config | {"text_config": config["text_config"] | text}, folder)
    save_processor("clip", folder)
    return folder


def test_padding_above_the_end_token_is_refused_where_it_would_be_pooled(tmp_path: Path, active: Store) -> None:
    folder = clip_with({"eos_token_id": 2, "vocab_size": 604}, tmp_path / "model")
    pads_with(folder, "<|pad|>")
    with refusal(CheckpointError, "model") as caught:
        Checked.of(folder, active)
    assert "pad_token" in (caught.value.fix or "") and caught.value.where == str(folder)


@pytest.mark.parametrize(
    ("end", "token"),
    [
        pytest.param(602, "<|pad|>", id="above, pooled at the end token"),
        pytest.param(2, "<|endoftext|>", id="the end token, pooled at the highest"),
        pytest.param(2, "!", id="below, pooled at the highest"),
    ],
)
def test_padding_that_is_not_pooled_changes_nothing(end: int, token: str, tmp_path: Path, active: Store) -> None:
    folder = clip_with({"eos_token_id": end, "vocab_size": 604}, tmp_path / "model")
    pads_with(folder, token)
    checked = Checked.of(folder, active)
    assert cosines(checked.embed(TEXTS), plain_text_embeddings(folder, TEXTS, 16)).min() >= 0.99999


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path, active: Store) -> None:
    folder = clip_with({}, tmp_path / "model")
    settings(folder, pad_token=None)
    with pytest.raises(CheckpointError, match="no padding token") as caught:
        Checked.of(folder, active)
    assert "pad_token" in (caught.value.fix or "")
