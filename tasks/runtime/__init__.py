"""Running an exported release: `load_encoder(folder)` gives an encoder that embeds pictures and texts.

It needs the target's runtime, Polygraphy, NumPy, Pillow, and transformers for the checkpoint's tokenizer and image
processor. It does not need Prefect or ModelOpt, and PyTorch only for target `torch-fp8`.
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

    Without `target`, a target that runs on this machine's GPU is preferred to ONNX Runtime. Without `precision`, the
    one that the release measured as fastest for the target is used, or FP8 if nothing was measured. The encoder's
    `choice`, and the log, say which one and why.

    Raises:
        NotARelease: `path` is not an exported release.
        UnknownTarget: no backend knows `target`.
        EngineUnavailable: the release has no such engine, or this machine lacks what it needs.
        EngineMismatch: the engine was built for another machine.
        ObjectMissing, ObjectDamaged: a file of the release is missing, or has changed.
    """
    # Must be set before the import: ONNX Runtime sends telemetry by default.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    folder = ReleaseFolder(Path(path))
    return ClipEncoder(folder, folder.choose(target, precision))
