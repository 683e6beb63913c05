"""Caches of TensorRT for one GPU: its builder's timings, and kernels compiled at run time.

A process that adds to a file works on a copy, which atomically replaces the file: of two processes that end at once the
later one's additions stay, and no reader sees half a file. TensorRT itself refuses files of another GPU or version.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from artifacts import fs
from artifacts.errors import StoreError
from artifacts.store.store import active_store

FOLDER_VARIABLE = "CLIPSMITH_ENGINE_CACHE"
"""Environment variable that names the folder to a process without a store; without both nothing is cached."""


def cache_folder() -> Path | None:
    """The folder of cache files: the one in the environment variable, else in the active store if it is writable."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    try:
        folder = active_store().root / "cache"
    except StoreError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def kept_file(kind: Literal["timings", "kernels"], gpu: str, version: str) -> Path | None:
    """The cache file of one GPU and version; None if nothing is to be cached."""
    folder = cache_folder()
    name = re.sub(r"[^a-z0-9.]+", "-", f"{gpu}-{version}".lower())
    return None if folder is None else folder / f"{kind}-{name}.cache"


@contextmanager
def own_copy(kept: Path | None) -> Iterator[Path | None]:
    """The path of a copy of the cache file (missing if there is none yet), for one build to read and write.

    If the block ends without an error, the copy replaces the cache file.
    """
    if kept is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="clipsmith-timings-") as folder:
        copy = Path(folder) / kept.name
        with suppress(FileNotFoundError):
            shutil.copyfile(kept, copy)
        yield copy
        if copy.exists():
            _write_whole(kept, copy.read_bytes())


class KernelCache:
    """A cache, over processes, of the kernels that TensorRT for RTX compiles for the GPU it runs on."""

    def __init__(self, kept: Path | None) -> None:
        self._kept = kept
        self._cache: Any = None
        self._config: Any = None

    def context(self, engine: Any) -> Any:
        """An execution context that uses the cache, and shares compiled kernels with the engine's other contexts.

        Kernels for a shape are compiled before its first run, not in the background, which would disturb timings.
        """
        import tensorrt_rtx as trt

        if self._config is None:
            self._config = engine.create_runtime_config()
            strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            self._config.dynamic_shapes_kernel_specialization_strategy = strategy
            self._cache = self._config.create_runtime_cache()
            if self._kept is not None and self._kept.exists():
                self._cache.deserialize(self._kept.read_bytes())  # only returns False if the file does not fit
            self._config.set_runtime_cache(self._cache)
        return engine.create_execution_context(self._config)

    def keep(self) -> None:
        """Write the kernels to the cache file."""
        if self._cache is not None and self._kept is not None:
            _write_whole(self._kept, bytes(self._cache.serialize()))


def _write_whole(kept: Path, data: bytes) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    scratch = kept.with_name(f".{kept.name}.{uuid.uuid4().hex}")
    try:
        fs.write_file(scratch, data)
        fs.flush_file(scratch)
        fs.rename(scratch, kept)
    finally:
        fs.unlink(scratch)
