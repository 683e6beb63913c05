"""Names of models on the Hugging Face hub as people type and paste them."""

from __future__ import annotations

import re

_PREFIX = re.compile(r"(?:hf[-_]hub:|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/)?)(?=.)")
_AFTER = re.compile(r"(?:/(?:tree|blob)/main)?/*(?:[?#].*)?$")
_LOCAL = "local-dir:"


def typed_name(model: str) -> str:
    """A hub id without the ways to write it: `hf-hub:org/name` and the address of its page are `org/name`.

    OpenCLIP's `local-dir:folder` is the folder. All else is left as it is.
    """
    pasted = model.strip()
    if pasted.startswith(_LOCAL):
        return pasted.removeprefix(_LOCAL)
    prefix = _PREFIX.match(pasted)
    return _AFTER.sub("", pasted[prefix.end() :]) if prefix else model
