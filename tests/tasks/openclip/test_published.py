"""Every architecture that open_clip publishes by name is taken by its kind, or refused by one exact reason.

`published.txt` lists them. Those that are taken are built at their real widths on the meta device, with one
block each; what differs in more than numbers is traced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts.errors import UnsupportedVariant
from tasks.clip import attention
from tasks.graph.replicate import trace_by_block
from tasks.openclip import KINDS, kind_for
from tasks.openclip.document import Document
from tasks.openclip.kind import OpenClipKind
from tasks.openclip.tokenizer import TOKENIZER_SOURCE
from tests.tasks.families.support import ENCODERS
from tests.thorough import amount

SHORT: dict[str, dict[str, Any]] = {
    "average": {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
    "map": {"timm_pool": "map", "timm_proj": "none"},
    "map_head": {"timm_pool": "map", "timm_proj": None},
    "token_head": {"timm_pool": "token", "timm_proj": None},
    "vit_l": {"layers": 24, "width": 1024},
    "vit_h": {"layers": 32, "width": 1280, "head_width": 80},
    "vit_bigg": {"layers": 48, "width": 1664, "head_width": 104, "mlp_ratio": 4.9231},
    "text_l": {"width": 768, "heads": 12},
    "text_h": {"width": 1024, "heads": 16, "layers": 24},
    "text_so400m": {"width": 1152, "heads": 16, "layers": 27, "mlp_ratio": 3.7362},
    "text_bigg": {"width": 1280, "heads": 20, "layers": 32},
    "siglip": {
        "no_causal_mask": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "tokenizer_kwargs": {"clean": "canonicalize"},
    },
    "tanh": {"act_kwargs": {"approximate": "tanh"}},
    "clipa": {
        "context_length": 32,
        "vocab_size": 32000,
        "hf_tokenizer_name": "bert-base-uncased",
        "tokenizer_kwargs": {"strip_sep_token": True},
        "pool_type": "last",
        "no_causal_mask": True,
    },
}
NAMES = {
    "timm": "timm_model_name",
    "image": "image_size",
    "patch": "patch_size",
    "tokenizer": "hf_tokenizer_name",
    "vocabulary": "vocab_size",
    "context": "context_length",
}


@dataclass(frozen=True)
class Row:
    """An architecture: what is expected (`= kind` or `! reason`) and its document."""

    expected: str
    name: str
    document: Document

    @property
    def kind(self) -> OpenClipKind | None:
        """The kind that is to take it; None for one to be refused."""
        return {kind.name: kind for kind in KINDS}.get(self.expected.removeprefix("= "))


def settings(text: str) -> dict[str, Any]:
    """A section from its words."""
    found: dict[str, Any] = {}
    for word in text.split():
        key, _, value = word.partition("=")
        if key in SHORT:
            found |= SHORT[key]
        elif key == "hf":
            found |= {"hf_model_name": value, "hf_tokenizer_name": value}
        else:
            try:
                found[NAMES.get(key, key)] = json.loads(value) if value else {}
            except ValueError:
                found[NAMES.get(key, key)] = value
    return found


def rows() -> Iterator[Row]:
    """The table."""
    path = Path(__file__).with_name("published.txt")
    expected = ""
    for line in path.read_text().splitlines():
        if line.startswith(("= ", "! ")):
            expected = line
        elif line.startswith("  "):
            top, vision, text = (part.strip() for part in f"{line} ".split(" |"))
            name, embed, *more = top.split()
            model = {"embed_dim": int(embed), "text_cfg": settings(text), **settings(" ".join(more))}
            if vision != "-":
                model["vision_cfg"] = settings(vision)
            yield Row(expected, name, Document.of(model, path))


ROWS = list(rows())
TAKEN = [row for row in ROWS if row.kind is not None]


def test_all_are_listed_once() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS) == 181


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_is_taken_by_its_kind_or_refused_by_its_reason(row: Row) -> None:
    if row.expected.startswith("="):
        assert kind_for(row.document) is row.kind
        return
    names = {"timm": row.document.vision["timm_model_name"], "hf": repr(row.document.text["hf_model_name"])}
    reason = row.expected.removeprefix("! ").format(**names)
    with pytest.raises(UnsupportedVariant) as caught:
        kind_for(row.document)
    assert str(caught.value).splitlines()[0] == f"this OpenCLIP model {reason}"


def config_of(row: Row, layers: int | None = None) -> dict[str, Any]:
    """The resolved configuration, with so many blocks in each encoder."""
    assert row.kind is not None
    config = row.kind.resolve_config(row.kind.read(row.document))
    for encoder in ENCODERS if layers else ():
        config = row.kind.with_layers(config, encoder, layers)
    return config


def test_their_sizes_are_what_the_document_says() -> None:
    for row in TAKEN:
        assert row.kind is not None
        config = config_of(row)
        image, text = (row.kind.encoder_spec(config, encoder) for encoder in ENCODERS)
        assert image.embedding_dim == text.embedding_dim == row.document.embed_dim, row.name
        assert image.inputs[0].shape[1:] == row.document.image_size, row.name
        if not row.document.text["hf_model_name"]:
            assert text.inputs[0].shape == (row.document.text["context_length"],), row.name
            assert (text.layers, text.hidden_size, text.heads) == tuple(
                row.document.text[key] for key in ("layers", "width", "heads")
            ), row.name
            assert row.kind.vocabulary(config) == row.document.text["vocab_size"], row.name


@pytest.mark.heavy
def test_they_are_built_at_their_real_widths() -> None:
    """On the meta device, and run there with one block in each encoder."""
    attention.register()
    dtypes = {"float16": torch.float32, "int64": torch.int64}
    for row in TAKEN:
        assert row.kind is not None
        config = config_of(row, layers=1)
        with torch.device("meta"), torch.no_grad():
            model = row.kind.build(config)
            for module in model.modules():
                if hasattr(getattr(module, "config", None), "_attn_implementation"):
                    module.config._attn_implementation = attention.NAME  # transformers' masks look at values
            for encoder in ENCODERS:
                inputs = row.kind.encoder_spec(config, encoder).inputs
                given = [torch.zeros((2, *item.shape), dtype=dtypes[item.dtype]) for item in inputs]
                made = row.kind.encode(model, encoder, *given)
                assert made.shape == (2, row.document.embed_dim), (row.name, encoder)


def form(value: Any) -> Any:
    """A configuration without numbers and activations: architectures of one form have graphs of one form."""
    if isinstance(value, dict):
        return {key: form(item) for key, item in sorted(value.items()) if key not in ("hidden_act", "name")}
    return re.sub(r"\d+", "", value) if isinstance(value, str) else type(value).__name__ if value is not True else True


def distinct() -> list[tuple[Row, Any]]:
    """One row for each form of an encoder, with the encoder: the smallest. Usually the first form of each class."""
    found: dict[str, tuple[Row, Any]] = {}
    for row in sorted(TAKEN, key=lambda row: row.document.embed_dim):
        config = config_of(row)
        for encoder in ENCODERS:
            section = config["vision_config" if encoder == "image" else "text_config"]
            every = [config["model_type"], encoder, form(section)]
            found.setdefault(json.dumps(amount(every[:2], every)), (row, encoder))
    return list(found.values())


@pytest.mark.heavy
def test_each_form_of_encoder_is_traced_by_block() -> None:
    for row, encoder in distinct():
        assert row.kind is not None
        config = config_of(row)
        skeleton = trace_by_block(row.kind, config, encoder)
        layers = row.kind.encoder_spec(config, encoder).layers
        assert skeleton.inventory.layers == layers
        assert any(f".{layers - 1}." in name for name in skeleton.weights), row.name
        assert not any(f".{layers}." in name for name in skeleton.weights), row.name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_where_a_tokenizer_is_stays_in_the_configuration(kind: OpenClipKind) -> None:
    document = next(row.document for row in TAKEN if row.kind is kind)
    stored = kind.read(document)
    source = {"repository": "org/name", "commit": "c" * 40}
    stored["text_config"] = stored["text_config"] | {TOKENIZER_SOURCE: source}
    assert kind.resolve_config(stored)["text_config"][TOKENIZER_SOURCE] == source
