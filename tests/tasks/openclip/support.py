"""Golden models of OpenCLIP's and timm's own classes (`tests/golden/make_openclip.py` made them)."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tasks.openclip import siglip

ARCHIVES = Path(__file__).parents[2] / "golden" / "openclip"


@dataclass(frozen=True)
class Golden:
    """A folder in OpenCLIP's layout, inputs for its model and the embeddings that OpenCLIP computes from them."""

    folder: Path
    pixels: np.ndarray
    ids: np.ndarray
    image: np.ndarray
    text: np.ndarray


def golden(name: str, folder: Path) -> Golden:
    """One archive, unpacked into `folder`."""
    with tarfile.open(ARCHIVES / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    expected = load_file(folder / "expected.safetensors")
    (folder / "expected.safetensors").unlink()
    return Golden(folder, **expected)


def shrink(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the architecture that the folder's configuration names, if any, as small as the golden model's."""
    sizes: dict[str, Any] = json.loads((folder / "shrunk.json").read_text())["timm"]
    name = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["vision_cfg"].get("timm_model_name")
    if name not in siglip.TOWERS:
        return
    renamed = {"img_size": "image_size", "embed_dim": "width", "depth": "layers", "num_heads": "heads"}
    tower = dataclasses.replace(siglip.TOWERS[name], **{renamed.get(key, key): value for key, value in sizes.items()})
    monkeypatch.setitem(siglip.TOWERS, name, tower)  # type: ignore[arg-type]


def add_tokenizer(name: str, folder: Path) -> None:
    """A tokenizer of the sort that the kind has, with as many tokens as the golden model."""
    import transformers

    letters = "abcdefghijklmnopqrstuvwxyz"
    if name == "layer_scale":
        words = [*letters, *(f"{letter}</w>" for letter in letters)]
        vocabulary = {word: place for place, word in enumerate(words)} | {"<|startoftext|>": 62, "<|endoftext|>": 63}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        return
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if name == "worldwide" else ["<pad>", "</s>", "<unk>"]
    pieces = [(piece, -float(place)) for place, piece in enumerate([*special, "\u2581", *letters])]
    if name == "worldwide":
        made: Any = transformers.XLMRobertaTokenizer(vocab=pieces)
    else:
        made = transformers.T5Tokenizer(vocab=pieces, extra_ids=0, pad_token="</s>")
    made.save_pretrained(folder)
