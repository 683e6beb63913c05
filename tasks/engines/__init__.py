"""Engine backends behind one registry: adding a runtime is one module here and one line below."""

from __future__ import annotations

from artifacts.errors import UnknownTarget
from artifacts.nearest import meant, nearest
from tasks.engines.base import Backend, BatchProfile
from tasks.engines.onnx_runtime import OnnxRuntime
from tasks.engines.tensorrt import TensorRt, TensorRtRtx
from tasks.engines.torch_fp8 import TorchFp8

__all__ = ["BACKENDS", "Backend", "BatchProfile", "backend_for", "known_targets"]

BACKENDS: tuple[Backend, ...] = (OnnxRuntime(), TensorRtRtx(), TensorRt(), TorchFp8())


def known_targets() -> tuple[str, ...]:
    """Every target that some backend accepts."""
    return tuple(target for backend in BACKENDS for target in backend.targets())


def backend_for(target: str) -> Backend:
    """The backend of a target.

    Raises:
        UnknownTarget: no backend knows it.
    """
    for backend in BACKENDS:
        if backend.accepts(target):
            return backend
    raise UnknownTarget(
        f"unknown engine target {target!r}",
        expected=f"one of {', '.join(known_targets())}",
        fix=f"{meant(nearest(target, known_targets()))}`clipsmith targets` says what each is",
    )
