"""How much the heavy tests do: `make test-heavy` what fits CI's time, `make test-thorough` all of it."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

THOROUGH = os.environ.get("CLIPSMITH_THOROUGH") == "1"


def amount(usual: T, thorough: T) -> T:
    """Of trials, or of what is tried."""
    return thorough if THOROUGH else usual
