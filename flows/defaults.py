"""Defaults that the command line needs before it imports the flows."""

from __future__ import annotations

import os

STORE = "Folder of the release store; left empty, that of the machine that runs."


def default_store() -> str:
    """`CLIPSMITH_STORE`, or `.clipsmith/store` in the working directory."""
    return os.environ.get("CLIPSMITH_STORE", ".clipsmith/store")
