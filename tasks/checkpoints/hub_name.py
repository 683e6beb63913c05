"""Normalising names of models on the Hugging Face hub as people type and paste them."""

from __future__ import annotations

import re

_PREFIX = re.compile(r"(?:hf[-_]hub:|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/)?)(?=.)")
_AFTER = re.compile(r"(?:/(?:tree|blob)/main)?/*(?:[?#].*)?$")
_LOCAL = "local-dir:"


def typed_name(model: str) -> str:
    """The plain hub id: `hf-hub:org/name` and the URL of a model's page become `org/name`.

    OpenCLIP's `local-dir:folder` becomes the folder. Everything else is returned unchanged.
    """
    pasted = model.strip()
    if pasted.startswith(_LOCAL):
        return pasted.removeprefix(_LOCAL)
    prefix = _PREFIX.match(pasted)
    return _AFTER.sub("", pasted[prefix.end() :]) if prefix else model
