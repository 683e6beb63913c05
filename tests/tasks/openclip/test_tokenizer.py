"""Texts become the tokens that OpenCLIP makes of them, and what is exported makes them without OpenCLIP."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from tasks.openclip.document import Document
from tasks.openclip.tokenizer import cleaning_tokenizer, odd_tokenizer
from tests.tasks.openclip.support import ARCHIVES
from tests.wording import refusal

GOLDEN = json.loads(lzma.decompress((ARCHIVES / "tokens.json.xz").read_bytes()))


def document(text: dict[str, Any]) -> Document:
    return Document.of({"embed_dim": 8, "vision_cfg": {}, "text_cfg": text}, Path("open_clip_config.json"))


def save(case: dict[str, Any], folder: Path) -> Path:
    for name, content in case["files"].items():
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_ids_are_openclips(name: str, tmp_path: Path) -> None:
    case, texts = GOLDEN["cases"][name], GOLDEN["texts"]
    made = cleaning_tokenizer(save(case, tmp_path), document(case["text_cfg"]), None)
    made.save_pretrained(tmp_path / "preprocess")
    exported = AutoTokenizer.from_pretrained(tmp_path / "preprocess")
    expected = np.array(case["ids"])
    for tokenizer in (made, exported):
        got = tokenizer(texts, padding="max_length", truncation=True, max_length=expected.shape[1]).input_ids
        wrong = [text for text, ours, theirs in zip(texts, got, expected, strict=True) if unlike(name, ours, theirs)]
        assert wrong == []


def unlike(name: str, ours: list[int], theirs: np.ndarray) -> bool:
    """OpenCLIP pads CLIP's texts with 0, transformers with the end token: neither changes an embedding."""
    if name == "clip":
        end = int(theirs.argmax()) + 1
        return ours[:end] != theirs[:end].tolist() or any(token != ours[end - 1] for token in ours[end:])
    return ours != theirs.tolist()


@pytest.mark.parametrize(
    ("settings", "odd"),
    [
        ({"clean": "canonicalize", "strip_sep_token": False}, None),
        ({"clean": "of_tomorrow"}, "tokenizer_kwargs.clean 'of_tomorrow'"),
        ({"language": "de"}, "tokenizer_kwargs.language 'de'"),
        ({"strip_sep_token": "yes"}, "tokenizer_kwargs.strip_sep_token 'yes'"),
    ],
)
def test_settings_that_are_not_known_are_named(settings: dict[str, Any], odd: str | None) -> None:
    found = odd_tokenizer(document({"tokenizer_kwargs": settings}))
    assert found is None if odd is None else odd in str(found)


def test_no_vocabulary_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    with refusal(OSError):
        cleaning_tokenizer(tmp_path, document({}), None)
