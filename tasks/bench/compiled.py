"""Encoders as they are timed and shipped: compiled by Inductor for any batch, or packed ahead of time (AOTInductor)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_TRACE_BATCH = 8
_MAX_BATCH = 4096


def compile_encoder(module: torch.nn.Module) -> Callable[..., Any]:
    """For any batch size: compiled when it is first called, and once more for a batch of one.

    Without `max-autotune`: on an H100 with PyTorch 2.11 cuBLAS won for FP16 products with a wide side, and the search
    took half a minute a shape. CUDA graphs are captured by the caller, who knows when inputs stay in place.
    """
    import torch

    compiled = torch.compile(module, fullgraph=True)

    def call(*inputs: torch.Tensor) -> torch.Tensor:
        for tensor in inputs:
            if len(tensor) > 1:
                torch._dynamo.mark_dynamic(tensor, 0)
        return compiled(*inputs)

    return call


def package(module: torch.nn.Module, inputs: Sequence[torch.Tensor], path: Path) -> Path:
    """Write an AOTInductor package (`.pt2`) for batches of 1 to 4096: what target torch-fp8 ships.

    The package is native code for this GPU, PyTorch and CUDA version. Packages with kernels of ours call back into
    `tasks.bench.fused_ops`, which `load_package` imports.
    """
    import torch

    batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
    example = tuple(tensor[:1].expand(_TRACE_BATCH, *tensor.shape[1:]).contiguous() for tensor in inputs)
    shapes = tuple({0: batch} for _ in example)
    with torch.no_grad():
        program = torch.export.export(module, example, dynamic_shapes=shapes)
    return Path(torch._inductor.aoti_compile_and_package(program, package_path=str(path)))


def load_package(path: Path) -> Callable[..., Any]:
    """A package that `package` wrote, ready to be called with tensors on the device."""
    import torch

    from tasks.bench import fused_ops  # registers the operators that a package calls

    del fused_ops
    return torch._inductor.aoti_load_package(str(path))
