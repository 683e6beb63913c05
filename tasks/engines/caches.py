"""What TensorRT found out on one GPU, kept for the next time: timings of its builder, kernels compiled while it ran.

Whoever adds to a file works on a copy and swaps it in whole: of two that end at once the later one's additions stay,
and no reader sees half a file. TensorRT itself refuses what another GPU or version has made.
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
"""Names the folder to a process that has no store; without either nothing is kept."""


def cache_folder() -> Path | None:
    """Where such files lie: the folder that the environment names, else the active store's cache if writable."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    try:
        folder = active_store().root / "cache"
    except StoreError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def kept_file(kind: Literal["timings", "kernels"], gpu: str, version: str) -> Path | None:
    """The file of one GPU and version; None when nothing is to be kept."""
    folder = cache_folder()
    name = re.sub(r"[^a-z0-9.]+", "-", f"{gpu}-{version}".lower())
    return None if folder is None else folder / f"{kind}-{name}.cache"


@contextmanager
def own_copy(kept: Path | None) -> Iterator[Path | None]:
    """A copy of what is kept, or a path where there is no file yet, for one build to read and write.

    When the block ends well, the copy takes the place of what is kept.
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
    """The kernels that TensorRT for RTX compiles for the GPU it runs on, kept over processes."""

    def __init__(self, kept: Path | None) -> None:
        self._kept = kept
        self._cache: Any = None
        self._config: Any = None

    def context(self, engine: Any) -> Any:
        """An execution context that uses what is kept, and shares what is compiled with the engine's other contexts.

        Kernels for a shape are compiled before its first run: with others running meanwhile, nothing could be timed.
        """
        import tensorrt_rtx as trt

        if self._config is None:
            self._config = engine.create_runtime_config()
            strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            self._config.dynamic_shapes_kernel_specialization_strategy = strategy
            self._cache = self._config.create_runtime_cache()
            if self._kept is not None and self._kept.exists():
                self._cache.deserialize(self._kept.read_bytes())  # False, and nothing else, where it does not fit
            self._config.set_runtime_cache(self._cache)
        return engine.create_execution_context(self._config)

    def keep(self) -> None:
        """Write what is known by now."""
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
