"""What takes long to make, made by the first of the test processes that needs it, for all of them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artifacts.manifest import Encoder
from tasks.clip.hugging_face import ClipFamily
from tasks.graph.skeleton import Skeleton


def made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """`path`, for which `make` makes a file or a folder elsewhere; other processes wait until it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = Path(tempfile.mkdtemp(dir=path.parent)) / path.name
            make(unfinished)
            unfinished.rename(path)
    return path


def traced_once(
    folder: Path,
    trace: Callable[[ClipFamily, dict[str, Any], Encoder], Skeleton],
    family: ClipFamily,
    config: dict[str, Any],
    encoder: Encoder,
) -> Skeleton:
    """What `trace` (in full, or by block) makes of a configuration; only for families that no test has changed."""
    asked = json.dumps([trace.__name__, type(family).__name__, family.name, config, encoder], sort_keys=True)
    path = folder / "traces" / hashlib.sha256(asked.encode()).hexdigest()
    made_once(path, lambda new: new.write_bytes(pickle.dumps(trace(family, config, encoder))))
    return pickle.loads(path.read_bytes())
