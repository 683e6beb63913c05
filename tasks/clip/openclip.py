"""Checkpoints in OpenCLIP's layout: which kind of model a folder's document describes.

Each kind is a family of its own, in a module `openclip_*.py`; the first of `KINDS` that takes a document is used. What
none can take is refused here by one reason, from the document alone. The next kind is one line in `KINDS` and has the
members of `OpenClipKind` (`openclip_kind.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.clip.openclip_document import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    WEIGHTS_FILES,
    Document,
    is_native,
    read_document,
    refusal,
    refuse_others,
    weights_file,
)
from tasks.clip.openclip_kind import OpenClipKind
from tasks.clip.openclip_metaclip2 import OpenClipMetaClip2
from tasks.clip.openclip_plain import OpenClip
from tasks.clip.openclip_preprocess import odd_preprocess
from tasks.clip.openclip_siglip import OpenClipSiglip
from tasks.clip.openclip_tokenizer import SOURCE as TOKENIZER_SOURCE
from tasks.clip.openclip_tokenizer import TOKENIZER_FILES, has_tokenizer, tokenizer_repository
from tasks.clip.openclip_towers import OpenClipTowers

__all__ = [
    "CONFIG_FILE",
    "KINDS",
    "TOKENIZER_FILES",
    "TOKENIZER_SOURCE",
    "WEIGHTS_FILE",
    "WEIGHTS_FILES",
    "OpenClip",
    "has_tokenizer",
    "identify",
    "is_native",
    "kind_for",
    "read_config",
    "tokenizer_elsewhere",
    "weights_file",
]

KINDS: tuple[OpenClipKind, ...] = (OpenClip(), OpenClipSiglip(), OpenClipMetaClip2(), OpenClipTowers())
"""In the order in which they are asked: kinds that are one of transformers' models come before towers of our own."""


def kind_for(document: Document) -> OpenClipKind:
    """The kind of a document.

    Raises:
        MissingEncoder: it has one tower only.
        UnsupportedVariant: no kind takes it. Of their reasons, the message has that of the last kind that the document
            looks like, or else the first.
    """
    refuse_others(document)
    odd = odd_preprocess(document)
    if odd is not None:
        raise refusal(document, f"has {odd}")
    reason = None
    for kind in KINDS:
        why_not = kind.why_not(document)
        if why_not is None:
            return kind
        if reason is None or kind.looks_like(document):
            reason = why_not
    raise refusal(document, f"has {reason}")


def identify(folder: Path) -> tuple[OpenClipKind, dict[str, Any]]:
    """The kind of a folder's model, and its configuration in the form of a `config.json`.

    Raises:
        NotClip: there is no OpenCLIP configuration.
        MissingEncoder, UnsupportedVariant: see `kind_for`.
    """
    document = read_document(folder)
    kind = kind_for(document)
    return kind, kind.read(document, folder)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration alone."""
    return identify(folder)[1]


def tokenizer_elsewhere(folder: Path) -> str | None:
    """The repository of the tokenizer of a folder's model; None if it lies beside the weights, or is not known."""
    return None if has_tokenizer(folder) else tokenizer_repository(read_document(folder))
