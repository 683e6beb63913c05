"""Targets that PyTorch runs: eager, compiled, and compiled with FP8 products (`torch-fp8`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.bench import machine
from tasks.bench.evidence import profile, weigh
from tasks.bench.gpu_timing import capture, plain
from tasks.bench.variant import Prepared
from tasks.torch_fp8.aot import own_kernels, why_no_fp8
from tasks.torch_fp8.onnx_graph import OnnxGraph

if TYPE_CHECKING:
    import torch

    from tasks.torch_fp8.torch_graph import Loaded

TARGET = "torch-fp8"
EAGER = "torch-eager"
BASELINES = (EAGER, "torch-compile")


def why_not(target: str) -> str | None:
    """Why a PyTorch target cannot run here; None if it can."""
    return why_no_fp8() if target == TARGET else None


@dataclass(frozen=True)
class TorchVariant:
    """A `tasks.bench.variant.Variant`; `captured` says whether its calls are captured as a CUDA graph."""

    loaded: Loaded
    call: Callable[..., Any]
    captured: bool

    @classmethod
    def load(cls, path: Path, target: str) -> TorchVariant:
        """Load an exported file; except for `torch-eager`, it is compiled at its first call.

        Raises:
            UnknownOperator: the graph has a node that clipsmith's export does not write.
        """
        from tasks.torch_fp8.compiled import compile_encoder
        from tasks.torch_fp8.torch_graph import load

        kernels = target == TARGET and own_kernels(machine.DEVICE)
        loaded = load(path, machine.DEVICE, kernels=kernels)
        if target == EAGER:
            return cls(loaded, loaded.module, captured=False)
        return cls(loaded, compile_encoder(loaded.module), captured=True)

    @property
    def graph(self) -> OnnxGraph:
        return self.loaded.graph

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self.call(*inputs)
        return embeddings

    def prepare(self, sets: Sequence[Sequence[torch.Tensor]]) -> Prepared:
        run = (capture if self.captured else plain)(self.call, sets)
        return Prepared(run, lambda: weigh(profile(run), self.loaded.graph, self.loaded.plan))

    def commands(self, batch: int) -> None:
        del batch

    def close(self) -> None:
        """Nothing to do: PyTorch frees what nothing refers to."""
