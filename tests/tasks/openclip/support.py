"""The golden files of OpenCLIP's kinds, unpacked, with the sizes of the architectures that they only name.

`tests/golden/make_openclip.py` says what is in them and made them.
"""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from safetensors.numpy import load_file

from tasks.clip.base import MASK
from tasks.openclip import architectures, identify
from tasks.openclip.document import read_document
from tasks.openclip.kind import OpenClipKind

ARCHIVES = Path(__file__).parents[2] / "golden" / "openclip"
_FIELDS = {"embed_dim": "width", "depth": "layers", "num_heads": "heads", "patch_size": "patch"}
_STRIDES = (4, 2, 2)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Golden:
    """A tiny model in OpenCLIP's layout, and what its own library makes of `pixels` and `ids`."""

    folder: Path
    kind: OpenClipKind
    config: dict[str, Any]
    """Resolved."""
    expected: dict[str, np.ndarray]
    """`image` and `text`, not normalised."""
    feeds: dict[str, dict[str, np.ndarray]]
    """By encoder, the inputs by name; pixels in FP16, which holds them exactly."""


def golden(name: str, folder: Path) -> Golden:
    """The golden file of a kind, unpacked into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(ARCHIVES / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    with shrunk(folder):
        kind, stored = identify(folder)
        config = kind.resolve_config(stored)
    expected = load_file(folder / "expected.safetensors")
    (folder / "expected.safetensors").unlink()
    ids = expected.pop("ids")
    text = {"input_ids": ids}
    if any(item.name == MASK for item in kind.encoder_spec(config, "text").inputs):
        text[MASK] = (ids != config["text_config"]["pad_token_id"]).astype(np.int64)
    feeds = {"image": {"pixel_values": expected.pop("pixels").astype(np.float16)}, "text": text}
    return Golden(folder, kind, config, expected, feeds)


@contextmanager
def shrunk(folder: Path) -> Iterator[None]:
    """Meanwhile, the architectures that the folder's document names are as small as the golden file's."""
    smaller = json.loads((folder / "shrunk.json").read_bytes())
    document = read_document(folder)
    with ExitStack() as stack:
        name = document.vision["timm_model_name"]
        if name in architectures.TIMM:
            made = architectures.TIMM[name]
            changes = {_FIELDS[key]: value for key, value in smaller["timm"].items() if key in _FIELDS}
            if "stem" in smaller["timm"]:
                changes["stem"] = tuple(zip(smaller["timm"]["stem"], _STRIDES, strict=True))
            if made.image_size is not None:
                changes |= {"pool_heads": changes["heads"], "image_size": smaller["timm"]["img_size"]}
            stack.enter_context(mock.patch.dict(architectures.TIMM, {name: dataclasses.replace(made, **changes)}))
        if smaller["hf"]:
            encoder = document.text["hf_model_name"].rpartition("/")[2]
            values = {key: value for key, value in smaller["hf"].items() if key != "model_type"}
            changed = {encoder: architectures.TEXT_ENCODERS[encoder] | values}
            stack.enter_context(mock.patch.dict(architectures.TEXT_ENCODERS, changed))
        yield


def add_tokenizer(name: str, folder: Path) -> None:
    """A tokenizer of the sort that the kind has, with as many tokens as the golden model."""
    import transformers

    if name == "biomed":
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
        (folder / "vocab.txt").write_text("\n".join(words))
        transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    elif name in ("worldwide", "xlm_roberta"):
        words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "\u2581", *_LETTERS]
        transformers.XLMRobertaTokenizer(vocab=_scored(words)).save_pretrained(folder)
    elif name.startswith("siglip"):
        vocabulary = _scored(["<pad>", "</s>", "<unk>", "\u2581", *_LETTERS])
        transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0, pad_token="</s>").save_pretrained(folder)
    else:
        words = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS)]
        ids = {word: place for place, word in enumerate(words)} | {"<|startoftext|>": 62, "<|endoftext|>": 63}
        (folder / "vocab.json").write_text(json.dumps(ids))
        (folder / "merges.txt").write_text("#version: 0.2\n")


def _scored(words: list[str]) -> list[tuple[str, float]]:
    """A vocabulary of sentencepiece, the first word the likeliest."""
    return [(word, -float(place)) for place, word in enumerate(words)]
