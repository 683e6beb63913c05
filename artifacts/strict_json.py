"""Strict JSON parsing, for files that others wrote."""

from __future__ import annotations

from typing import Any

from artifacts.records import load_strictly


def strict_json(text: str | bytes) -> Any:
    """Parse one JSON document; bytes must be UTF-8 without a byte order mark.

    Raises:
        ValueError: not such JSON, NaN or Infinity, a key that occurs twice, or nested too deeply.
    """
    try:
        return load_strictly(text.decode() if isinstance(text, bytes) else text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
