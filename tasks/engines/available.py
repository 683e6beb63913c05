"""Which engines this installation can build."""

from __future__ import annotations

from artifacts.errors import EngineUnavailable, Fp8Unavailable
from artifacts.manifest import Precision
from tasks.engines import backend_for


def require_target(target: str, *precisions: Precision) -> None:
    """Make sure that this installation can build engines of these precisions for `target`.

    Raises:
        UnknownTarget, EngineUnavailable.
        Fp8Unavailable: FP8 is asked of a GPU generation that has none; it would fail in the builder, late and darkly.
    """
    backend = backend_for(target)
    reason = backend.why_no_fp8(target) if "fp8" in precisions else None
    if reason is not None:
        raise Fp8Unavailable(
            f"no FP8 engine for target {target}: {reason}",
            expected="a target with FP8, or precisions: [fp16]",
            fix="leave the target out, or run it alone with --precisions fp16",
        )
    reason = backend.why_not_build(target)
    if reason is not None:
        raise EngineUnavailable(
            f"target {target} cannot be built here: {reason}", fix="install what is missing, or leave the target out"
        )
