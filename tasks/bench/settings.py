"""The bench's settings: encoders, precisions, targets, batch sizes, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tasks.bench.gate import MIN_FP8_SHARE
from tasks.bench.gpu_timing import TimingSettings

Precision = Literal["fp16", "fp8"]  # not artifacts.manifest's, as the bench runs without pydantic
ENCODERS = ("image", "text")
PRECISIONS: tuple[Precision, ...] = ("fp16", "fp8")


@dataclass(frozen=True)
class BenchSettings:
    """What to time.

    A target runs in both precisions, FP16 and FP8 interleaved: `torch-fp8` is the compiled encoder with our kernels;
    `tensorrt` and `trtrtx` are engines, built for all batch sizes and optimized for the largest.
    Baselines are FP16 only: `torch-eager` is PyTorch called from Python, `torch-compile` is compiled PyTorch without
    our kernels.
    """

    batches: tuple[int, ...] = (1, 8, 32, 128)
    baselines: tuple[str, ...] = ("torch-eager", "torch-compile")
    targets: tuple[str, ...] = ("tensorrt", "trtrtx", "torch-fp8")
    timing: TimingSettings = field(default_factory=TimingSettings)
    min_fp8_share: float = MIN_FP8_SHARE
    """The gate: the share of an FP8 row's time in matrix products that must be in FP8."""
    seconds: float | None = None
    """Start no new encoder, target or batch size after this many seconds; the remaining rows say so."""

    def planned(self) -> list[tuple[str, Precision]]:
        """Targets and precisions, in the order in which they are prepared."""
        baselines: list[tuple[str, Precision]] = [(name, "fp16") for name in self.baselines]
        return baselines + [(target, precision) for target in self.targets for precision in PRECISIONS]
