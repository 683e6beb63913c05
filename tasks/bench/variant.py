"""The interface of targets to the bench: an encoder that can be called, prepared for timing, and inspected."""

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
"""Samples on which a target's output is compared with the graph computed node by node."""


@dataclass(frozen=True)
class Prepared:
    """A variant prepared for one batch size."""

    run: Run
    evidence: Callable[[], Evidence]
    """Gives the evidence of where the time of one run goes and in which precision; it runs the variant once more."""
    note: str | None = None
    """A remark for the reader on how it was timed, or None."""


@dataclass(frozen=True)
class Commands:
    """Shell commands, for the exported folder, that build an engine and time it without clipsmith."""

    build: str
    run: str


class Variant(Protocol):
    """One encoder in one precision, as one target runs it."""

    @property
    def graph(self) -> OnnxGraph:
        """The exported file that it came from."""
        ...

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The embeddings (batch, dim) of inputs on the device."""
        ...

    def prepare(self, sets: Sequence[Sequence[torch.Tensor]]) -> Prepared:
        """Prepare for these input sets on the device, which all have the same shapes and keep their addresses."""
        ...

    def commands(self, batch: int) -> Commands | None:
        """The commands to do the same by hand; None for targets without an engine."""
        ...

    def close(self) -> None:
        """Free the variant's resources."""
        ...


def least_cosine(path: Path, variant: Variant) -> float:
    """The least cosine of a sample's embedding with that of the file computed node by node."""
    from tasks.torch_fp8.torch_graph import load

    inputs = machine.on_device(random_inputs(variant.graph, _CHECKED, seed=0))
    expected = load(path, machine.DEVICE, fused=False).module(*inputs)
    return float(cosine(variant(*inputs).float().cpu().numpy(), expected.float().cpu().numpy()).min())
