"""The image encoders of larger and larger CLIPs, checkpoint to FP8 ONNX, and bigG's engine."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.architectures import ARCHITECTURES
from tests.benchmarks.measure import Cost, run_child
from tests.benchmarks.models import OURS, model_in

ENGINE_OF = "bigg"
ENGINE_TARGET = "trtrtx-sm89"


@dataclass(frozen=True)
class Engine:
    """What the builder's process cost, and the engine's size in bytes."""

    target: str
    wall_s: float
    peak_mb: float
    size: int


@dataclass(frozen=True)
class Scale:
    """One image encoder: its parameters, how the checkpoint stores them, the cost of the export, the file's bytes."""

    label: str
    parameters: int
    stored: str
    cost: Cost
    size: int
    engine: Engine | None = None


def measure_scale(work: Path, name: str) -> Scale:
    """Make the model, export its image encoder, build the engine where that is asked for, delete everything."""
    model = model_in(work, name)
    out = work / f"{name}-out"
    out.mkdir()
    try:
        cost = run_child(OURS, "export_clipsmith", model.folder, model.amax, out, "image", "fp8")
        size = sum(path.stat().st_size for path in out.iterdir())
        shutil.rmtree(model.folder)
        engine = _build(out) if name == ENGINE_OF else None
    finally:
        shutil.rmtree(out)
    return Scale(ARCHITECTURES[name].label, model.image_parameters, model.dtype, cost, size, engine)


def _build(out: Path) -> Engine:
    path = out / "image.engine"
    told = run_child(OURS, "build_engine", out / "image.fp8.onnx", path, ENGINE_TARGET).reported
    return Engine(ENGINE_TARGET, told["builder_wall_s"], told["builder_peak_mb"], path.stat().st_size)
