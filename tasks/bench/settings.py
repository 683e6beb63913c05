"""What the bench is asked for: encoders, precisions, targets, batch sizes, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tasks.bench.gate import MIN_FP8_SHARE
from tasks.bench.gpu_timing import TimingSettings

Precision = Literal["fp16", "fp8"]  # not artifacts.manifest's: the bench runs where there is no pydantic
ENCODERS = ("image", "text")
PRECISIONS: tuple[Precision, ...] = ("fp16", "fp8")


@dataclass(frozen=True)
class BenchSettings:
    """What to time.

    A target serves both precisions, FP16 and FP8 interleaved: `torch-fp8` is the compiled encoder with our kernels,
    `tensorrt` and `trtrtx` are engines, built for all batch sizes and tuned for the largest.
    Baselines, in FP16: `torch-eager` is PyTorch called from Python, `torch-compile` PyTorch without our kernels.
    """

    batches: tuple[int, ...] = (1, 8, 32, 128)
    baselines: tuple[str, ...] = ("torch-eager", "torch-compile")
    targets: tuple[str, ...] = ("tensorrt", "trtrtx", "torch-fp8")
    timing: TimingSettings = field(default_factory=TimingSettings)
    min_fp8_share: float = MIN_FP8_SHARE
    """The share of the matrix products' time that must be in FP8, or an FP8 row fails the gate."""
    seconds: float | None = None
    """Begin no new encoder, target or batch after so many seconds; what is left says so."""

    def planned(self) -> list[tuple[str, Precision]]:
        """Targets and precisions, in the order in which they are made."""
        baselines: list[tuple[str, Precision]] = [(name, "fp16") for name in self.baselines]
        return baselines + [(target, precision) for target in self.targets for precision in PRECISIONS]
