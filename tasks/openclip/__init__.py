"""Checkpoints in OpenCLIP's layout: finds the kind of model in a document. A kind is one module and one line here.

The first of `KINDS` that takes a document is used. What none takes is refused here for one reason, which is found in
the document alone. A kind is a family that is derived from `OpenClipKind`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.openclip.document import Document, read_document, refusal, refuse_others
from tasks.openclip.kind import OpenClipKind
from tasks.openclip.metaclip2 import OpenClipMetaClip2
from tasks.openclip.plain import OpenClip
from tasks.openclip.preprocess import odd_preprocess
from tasks.openclip.siglip import OpenClipSiglip
from tasks.openclip.towers import OpenClipTowers

KINDS: tuple[OpenClipKind, ...] = (OpenClip(), OpenClipSiglip(), OpenClipMetaClip2(), OpenClipTowers())
"""In the order in which they are tried: kinds that run as one of transformers' models, then our own towers."""


def kind_for(document: Document) -> OpenClipKind:
    """The kind of a document.

    Raises:
        MissingEncoder: it has one tower only.
        UnsupportedVariant: no kind accepts it. The message has the reason of the last kind that the document looks
            like, or else the first reason.
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
    return kind, kind.read(document)
