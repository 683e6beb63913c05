"""The document of an error, with which a command that was asked for --json says what it refuses or what failed."""

from __future__ import annotations

import json
import re

from artifacts.inert import visible
from deployments.commands.options import SCHEMA

_TYPED = "UsageError"


def without_error(out: str, err: str) -> str:
    """What standard output holds beside the document of an error: the document of a result, or nothing.

    The document of an error has the keys of `docs/json.md`, and says nothing that standard error does not say.
    """
    document = json.loads(out)
    if "error" not in document:
        return out
    error = document["error"]
    assert document == {"schema": SCHEMA, "error": error}
    assert list(error) == ["class", "what", "where", "expected", "fix"]
    assert error["class"] and error["what"]
    said = [error[name] for name in error if error[name] is not None]
    if error["class"] == _TYPED:
        said = [error["what"]]  # Typer names its help in words of its own
    for text in said:
        assert _letters(visible(text)) in _letters(err), (text, err)
    return ""


def _letters(text: str) -> str:
    """Without white space, and without the box that Typer draws around what it says."""
    return re.sub("[\\s\u2500-\u257f]", "", text)
