"""What TensorRT measured while it built: kept per GPU and version, so that the next build need not measure it again.

Builds work on copies of their own and swap them in whole: of two that end at once the later one's measurements stay,
and no reader sees half a file.
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

FOLDER_VARIABLE = "CLIPSMITH_TIMING_CACHE"
"""The folder of the files; without it nothing is kept."""


def kept_file(gpu: str, version: str) -> Path | None:
    """The file of one GPU and TensorRT version; None when nothing is to be kept."""
    folder = os.environ.get(FOLDER_VARIABLE)
    name = re.sub(r"[^a-z0-9.]+", "-", f"{gpu}-{version}".lower())
    return Path(folder) / f"timing-{name}.cache" if folder else None


@contextmanager
def own_copy(kept: Path | None) -> Iterator[Path | None]:
    """A copy of what is kept, or a path where there is no file yet, for one build to read and write.

    When the block ends well, the copy takes the place of what is kept.
    """
    if kept is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="clipsmith-timing-") as folder:
        copy = Path(folder) / kept.name
        with suppress(FileNotFoundError):
            shutil.copyfile(kept, copy)
        yield copy
        if copy.exists():
            _swap_in(copy, kept)


def _swap_in(copy: Path, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    scratch = kept.with_name(f".{kept.name}.{uuid.uuid4().hex}")
    try:
        with scratch.open("xb") as stream, copy.open("rb") as source:
            shutil.copyfileobj(source, stream)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(kept)
    finally:
        scratch.unlink(missing_ok=True)
