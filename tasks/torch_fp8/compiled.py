"""Compiling encoders: with Inductor for any batch size, or ahead of time into a package (AOTInductor)."""

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
    """Compile an encoder at its first call for any batch size, and separately for a batch of one.

    `max-autotune` is not used: on an H100 with PyTorch 2.11, cuBLAS won for FP16 products with a wide side, and the
    search took half a minute per shape. The caller captures CUDA graphs, as it knows when inputs keep their addresses.
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
    """Write an AOTInductor package (`.pt2`), the engine of torch-fp8, for the smallest, usual and largest batch size.

    The package is native code for this GPU, PyTorch and CUDA version. Packages with our kernels call back into
    `tasks.torch_fp8.fused_ops`, which `load_package` imports. `metadata` can be read with `get_metadata()`.
    """
    import torch
    from torch._inductor.utils import fresh_cache

    from tasks.torch_fp8.cuda_toolkit import CXX_LIBRARY, linkable_libraries

    smallest, usual, largest = batches
    traced = max(usual, min(2, largest))  # a batch size of one would become a constant
    example = tuple(tensor[:1].expand(traced, *tensor.shape[1:]).contiguous() for tensor in inputs)
    batch = torch.export.Dim("batch", min=smallest, max=largest) if smallest < largest else None
    shapes = tuple({} if batch is None else {0: batch} for _ in example)
    options = {
        "aot_inductor.metadata": dict(metadata or {}),
        "aot_inductor.custom_op_libs": [f":{CXX_LIBRARY}"],  # before the one that the compiler adds at the end
        "aot_inductor.precompile_headers": False,  # for a single package they cost more time than they save
    }
    probes = no_vector_probes() if inputs[0].is_cuda else nullcontext()
    # Without a fresh cache, compiled code and weights would stay in the cache folder.
    with torch.no_grad(), probes, linkable_libraries(), fresh_cache():
        program = torch.export.export(module, example, dynamic_shapes=shapes)
        made = torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    return Path(made)


def load_package(path: Path) -> Any:
    """Load a package that `package` wrote; it can be called with tensors on the device."""
    import torch

    from tasks.torch_fp8 import fused_ops  # registers the operators that a package calls

    del fused_ops
    if not torch.cuda.is_available():
        return torch._inductor.aoti_load_package(str(path))
    torch.cuda.current_device()  # initialises CUDA, which native code assumes
    with no_vector_probes():
        return torch._inductor.aoti_load_package(str(path))


@contextmanager
def no_vector_probes() -> Iterator[None]:
    """Inside the block, compile CPU code without vector instructions, which a package for a GPU does not need.

    Otherwise PyTorch tests each kind of the CPU's vector instructions once per process: it compiles a program, and
    starts a Python that imports PyTorch and loads it. With these tests, loading a package took 45 s on an H200 machine.
    """
    from torch._inductor import config, cpu_vec_isa

    found: Any = cpu_vec_isa.valid_vec_isa_list  # it caches its result
    found.cache_clear()
    # Changing the setting is not enough: on CPUs with AMX, PyTorch keeps the result of the first query.
    kinds, cpu_vec_isa.supported_vec_isa_list = cpu_vec_isa.supported_vec_isa_list, []
    try:
        with config.patch({"cpp.vec_isa_ok": False}):
            yield
    finally:
        cpu_vec_isa.supported_vec_isa_list = kinds
        found.cache_clear()
