"""Encoders as they are timed and shipped: compiled by Inductor for any batch, or packed ahead of time (AOTInductor)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_TRACE_BATCH = 8
_MAX_BATCH = 4096


def compile_encoder(module: torch.nn.Module) -> Callable[..., Any]:
    """Compile an encoder for any batch size, at its first call, and once more for a batch of one.

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


def package(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    path: Path,
    *,
    batches: tuple[int, int, int] = (1, _TRACE_BATCH, _MAX_BATCH),
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write an AOTInductor package (`.pt2`) for the smallest, the usual and the largest batch: what torch-fp8 ships.

    The package is native code for this GPU, PyTorch and CUDA version. Packages with kernels of ours call back into
    `tasks.torch_fp8.fused_ops`, which `load_package` imports. `metadata` can be read back with `get_metadata()`.
    """
    import torch
    from torch._inductor.utils import fresh_cache

    from tasks.torch_fp8.cuda_toolkit import CXX_LIBRARY, linkable_libraries

    smallest, usual, largest = batches
    traced = max(usual, min(2, largest))  # a batch of one would be traced as a constant
    example = tuple(tensor[:1].expand(traced, *tensor.shape[1:]).contiguous() for tensor in inputs)
    batch = torch.export.Dim("batch", min=smallest, max=largest) if smallest < largest else None
    shapes = tuple({} if batch is None else {0: batch} for _ in example)
    options = {
        "aot_inductor.metadata": dict(metadata or {}),
        "aot_inductor.custom_op_libs": [f":{CXX_LIBRARY}"],  # named before the one that the compiler adds at the end
        "aot_inductor.precompile_headers": False,  # for one package they take longer than they save
    }
    probes = no_vector_probes() if inputs[0].is_cuda else nullcontext()
    # Without a fresh cache what is compiled stays in a folder, weights included.
    with torch.no_grad(), probes, linkable_libraries(), fresh_cache():
        program = torch.export.export(module, example, dynamic_shapes=shapes)
        made = torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    return Path(made)


def load_package(path: Path) -> Any:
    """A package that `package` wrote, ready to be called with tensors on the device."""
    import torch

    from tasks.torch_fp8 import fused_ops  # registers the operators that a package calls

    del fused_ops
    if not torch.cuda.is_available():
        return torch._inductor.aoti_load_package(str(path))
    torch.cuda.current_device()  # sets CUDA up, before native code takes it to be
    with no_vector_probes():
        return torch._inductor.aoti_load_package(str(path))


@contextmanager
def no_vector_probes() -> Iterator[None]:
    """Compile code for the processor without vector instructions in the block: a package for a GPU needs none.

    Else PyTorch tries each kind that the processor has, once in a process: it compiles a program, and starts a Python
    that imports PyTorch to load it. With them, loading a package took 45 s beside an H200.
    """
    from torch._inductor import config, cpu_vec_isa

    found: Any = cpu_vec_isa.valid_vec_isa_list  # keeps what it finds
    found.cache_clear()
    # Not only the setting: a processor with AMX keeps what the setting said when it was first asked.
    kinds, cpu_vec_isa.supported_vec_isa_list = cpu_vec_isa.supported_vec_isa_list, []
    try:
        with config.patch({"cpp.vec_isa_ok": False}):
            yield
    finally:
        cpu_vec_isa.supported_vec_isa_list = kinds
        found.cache_clear()
