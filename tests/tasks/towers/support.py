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
from tasks.openclip import architectures, siglip
from tasks.openclip.document import read_document
from tasks.openclip.towers import OpenClipTowers

ARCHIVES = Path(__file__).parents[2] / "golden" / "openclip"
_FIELDS = {"embed_dim": "width", "depth": "layers", "num_heads": "heads", "patch_size": "patch"}
_STRIDES = (4, 2, 2)


@dataclass(frozen=True)
class Golden:
    """A tiny model in OpenCLIP's layout, and what its own library makes of `pixels` and `ids`."""

    folder: Path
    kind: OpenClipTowers
    config: dict[str, Any]
    """Resolved."""
    expected: dict[str, np.ndarray]
    """`image` and `text`, not normalised."""
    feeds: dict[str, dict[str, np.ndarray]]
    """By encoder, the inputs by name; pixels in FP16, which holds them exactly."""


def golden(name: str, folder: Path) -> Golden:
    """The golden file of a kind, unpacked into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(ARCHIVES / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    kind = OpenClipTowers()
    with shrunk(folder):
        document = read_document(folder)
        assert kind.why_not(document) is None
        config = kind.resolve_config(kind.read(document, folder))
    expected = load_file(folder / "expected.safetensors")
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
            changes = {_FIELDS[key]: value for key, value in smaller["timm"].items() if key in _FIELDS}
            if "stem" in smaller["timm"]:
                changes["stem"] = tuple(zip(smaller["timm"]["stem"], _STRIDES, strict=True))
            if name in siglip.TOWERS:
                changes["pool_heads"] = changes["heads"]
            made = dataclasses.replace(architectures.TIMM[name], **changes)
            stack.enter_context(mock.patch.dict(architectures.TIMM, {name: made}))
        if smaller["hf"]:
            encoder = document.text["hf_model_name"].rpartition("/")[2]
            values = {key: value for key, value in smaller["hf"].items() if key != "model_type"}
            made = architectures.ENCODERS[encoder] | values
            stack.enter_context(mock.patch.dict(architectures.ENCODERS, {encoder: made}))
        yield
