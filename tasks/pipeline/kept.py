"""Keeping a step's small files as one object of the store."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.refs import ArtifactRef
from artifacts.store.store import active_store

if TYPE_CHECKING:
    import pandas as pd


def keep(kind: str, files: Mapping[str, pd.DataFrame | str | Path]) -> ArtifactRef:
    """Add an object with these files, by name: a frame is written as Parquet, a text as UTF-8, a path is copied."""
    store = active_store()
    with store.staging() as folder:
        for name, content in files.items():
            if isinstance(content, str):
                (folder / name).write_text(content, encoding="utf-8")
            elif isinstance(content, Path):
                shutil.copyfile(content, folder / name)
            else:
                content.to_parquet(folder / name, index=False)
        return store.add(kind, folder)
