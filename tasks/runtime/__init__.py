"""Run an exported release: `load_encoder(folder)` gives the embeddings of pictures and texts.

Needs neither Prefect nor ModelOpt, and PyTorch for its own target alone: the runtime of the target, Polygraphy, NumPy,
Pillow, and transformers for the checkpoint's own tokenizer and image processor.
"""

from __future__ import annotations

import os
from pathlib import Path

from artifacts.manifest import Precision
from tasks.runtime.encoder import ClipEncoder
from tasks.runtime.folder import ReleaseFolder

__all__ = ["ClipEncoder", "load_encoder"]


def load_encoder(path: Path | str, *, target: str | None = None, precision: Precision | None = None) -> ClipEncoder:
    """Load the encoders of a release that `clipsmith export` wrote to `path`.

    Without `target`, what runs on this machine's GPU comes before ONNX Runtime. Without `precision`, it is the one that
    the release measured as fastest there, and FP8 where it measured nothing; `choice` of the encoder, and the log, tell
    which and why.

    Raises:
        NotARelease: `path` is no exported release.
        UnknownTarget: no backend knows `target`.
        EngineUnavailable: the release has no such engine, or this machine has not what it needs.
        EngineMismatch: the engine was built for another machine.
        ObjectMissing, ObjectDamaged: a file of the release is gone, or not what was published.
    """
    # Set before it is imported: ONNX Runtime reports its use to its maker's servers unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    folder = ReleaseFolder(Path(path))
    return ClipEncoder(folder, folder.choose(target, precision))
