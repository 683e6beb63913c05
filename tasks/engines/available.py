"""Which engines this installation can build, and which this machine can run."""

from __future__ import annotations

from dataclasses import dataclass

from artifacts.errors import EngineUnavailable, Fp8Unavailable
from artifacts.manifest import Precision
from tasks.engines import backend_for, known_targets


@dataclass(frozen=True)
class Standing:
    """Whether a target can be built and run here, or the reasons why not; a reason is None if there is none."""

    target: str
    about: str
    why_not_build: str | None
    why_not_run: str | None
    why_no_fp8: str | None

    @property
    def builds(self) -> bool:
        """Whether this installation can build its engines."""
        return self.why_not_build is None

    @property
    def runs(self) -> bool:
        """Whether this machine can run its engines."""
        return self.why_not_run is None


def standings() -> list[Standing]:
    """The standing of every target here."""
    return [
        Standing(
            target,
            backend.about(target),
            backend.why_not_build(target),
            backend.why_not_run(target),
            backend.why_no_fp8(target),
        )
        for target in known_targets()
        for backend in (backend_for(target),)
    ]


def require_target(target: str, *precisions: Precision) -> None:
    """Make sure that this installation can build engines of these precisions for `target`.

    Raises:
        UnknownTarget, EngineUnavailable.
        Fp8Unavailable: the target's GPU generation has no FP8; the builder would fail late and with an obscure message.
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
