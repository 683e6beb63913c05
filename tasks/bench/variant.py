"""What every target looks like to the instrument: an encoder that can be called, prepared for timing, and asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tasks.bench import machine
from tasks.bench.evidence import Evidence
from tasks.bench.gpu_timing import Run
from tasks.evaluation.metrics import cosine
from tasks.torch_fp8.onnx_graph import OnnxGraph, random_inputs

if TYPE_CHECKING:
    import torch

_CHECKED = 32
"""Samples on which a target's output is held against the graph computed node by node."""


@dataclass(frozen=True)
class Prepared:
    """A variant made ready for one batch size."""

    run: Run
    evidence: Callable[[], Evidence]
    """Where the time of one run goes, and in which precision; runs it once more."""
    note: str | None = None
    """What a reader must know of how it was timed."""


@dataclass(frozen=True)
class Commands:
    """Lines for a shell, in the exported folder, that build an engine and time it without clipsmith."""

    build: str
    run: str


class Variant(Protocol):
    """One encoder in one precision, as one target runs it."""

    @property
    def graph(self) -> OnnxGraph:
        """The exported file that it came from."""
        ...

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The embeddings (batch, size) of inputs on the device."""
        ...

    def prepare(self, sets: Sequence[Sequence[torch.Tensor]]) -> Prepared:
        """Make it ready for these inputs on the device, which all have the same shapes and stay where they are."""
        ...

    def commands(self, batch: int) -> Commands | None:
        """How to do the same by hand; None for what is no engine."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


def least_cosine(path: Path, variant: Variant) -> float:
    """The least cosine, row by row, against the file computed node by node."""
    from tasks.torch_fp8.torch_graph import load

    inputs = machine.on_device(random_inputs(variant.graph, _CHECKED, seed=0))
    expected = load(path, machine.DEVICE, fused=False).module(*inputs)
    return float(cosine(variant(*inputs).float().cpu().numpy(), expected.float().cpu().numpy()).min())
