"""Did FP8 run in PyTorch? The answer is read from the names of the kernels that the profiler saw, and from the plan.

Kernel names are those of cuBLAS 13 on Hopper (`nvjet_sm90_qqhsh...`: operands q = E4M3, h = FP16), CUTLASS (`e4m3`),
cuDNN and FlashAttention (`flash`, `sdpa`), and our own.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tasks.torch_fp8.onnx_graph import OnnxGraph, module_of
from tasks.torch_fp8.patterns import FP8_ALIGNMENT, ActivatedLinear, Attention, Linear, LinearGroup, Plan

Kind = Literal["gemm", "attention", "other"]
_POINTWISE = re.compile(r"triton_(poi|per|red)_|elementwise|layer_norm|Memset|Memcpy")
"""Kernels that are not products, although their names may list the products that they follow."""
_ATTENTION = re.compile(r"flash|sdpa|fmha|attention", re.IGNORECASE)
_GEMM = re.compile(
    r"nvjet|gemm|gemv|cutlass|cublas|_mm_|triton_tem|matmul|_linear_kernel|implicit_convolve|xmma", re.IGNORECASE
)
_SECOND = re.compile(r"splitk_?reduce", re.IGNORECASE)
"""A kernel that adds up the parts of the product before it, so it is not a product itself."""
_FP8 = re.compile(r"nvjet_sm\d+_qq|e4m3|f8f8|fp8|_linear_kernel", re.IGNORECASE)
GROUPED = " + k, v"
"""The suffix after the name of a query's module if keys and values are computed in the same product."""
_NOT_FP8_ATTENTION = "PyTorch has no FP8 attention kernel: computed in FP16"


@dataclass(frozen=True)
class Kernel:
    """One launch that the profiler saw: name, start and duration in microseconds."""

    name: str
    start: float
    duration: float

    @property
    def kind(self) -> Kind:
        if _POINTWISE.search(self.name):
            return "other"
        if _ATTENTION.search(self.name):
            return "attention"
        return "gemm" if _GEMM.search(self.name) else "other"

    @property
    def fp8(self) -> bool:
        return self.kind != "other" and _FP8.search(self.name) is not None


@dataclass(frozen=True)
class FallBack:
    """A product that the graph quantizes but the target computed in FP16, and why."""

    module: str
    reason: str


@dataclass(frozen=True)
class Layer:
    """One product of the plan and the time of its kernel in microseconds."""

    module: str
    microseconds: float


@dataclass(frozen=True)
class Evidence:
    """Where one run's time went, in microseconds, and the shares (0 to 1) of products that ran in FP8.

    A share is None if there is no such product, or if its precision is unknown; then `doubt` says why.
    """

    gemm: float
    attention: float
    other: float
    fp8_gemm_share: float | None
    fp8_attention_share: float | None
    fallen_back: tuple[FallBack, ...]
    layers: tuple[Layer, ...]
    """The time of each product; empty if kernels could not be assigned to products."""
    kernels: tuple[tuple[str, int, float], ...]
    """The most expensive kernels: name, launches, microseconds."""
    source: Literal["kernel names", "engine inspector"] = "kernel names"
    weighed_by: Literal["time", "number"] = "time"
    """What the shares refer to: the products' time or, if that is unknown, their number."""
    unfused_attention: tuple[str, ...] = ()
    """Modules whose attention is not a single kernel, for engines."""
    doubt: str | None = None


def profile(run: Callable[[int], Any]) -> list[Kernel]:
    """Profile one run and return its kernels in the order of their start."""
    import torch
    from torch._C._autograd import DeviceType as ProfilerDevice
    from torch.profiler import ProfilerActivity

    run(0)
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as seen:
        run(0)
        torch.cuda.synchronize()
    events = [e for e in seen.events() if e.device_type == ProfilerDevice.CUDA]
    kernels = [Kernel(e.name, e.time_range.start, e.time_range.elapsed_us()) for e in events]
    return sorted(kernels, key=lambda kernel: kernel.start)


def weigh(kernels: Sequence[Kernel], graph: OnnxGraph, plan: Plan) -> Evidence:
    """The evidence in the kernels of one run, compared with the plan."""
    spent = {kind: sum(k.duration for k in kernels if k.kind == kind) for kind in ("gemm", "attention", "other")}
    fp8 = {kind: sum(k.duration for k in kernels if k.kind == kind and k.fp8) for kind in ("gemm", "attention")}
    return Evidence(
        gemm=spent["gemm"],
        attention=spent["attention"],
        other=spent["other"],
        fp8_gemm_share=fp8["gemm"] / spent["gemm"] if spent["gemm"] else None,
        fp8_attention_share=fp8["attention"] / spent["attention"] if spent["attention"] else None,
        fallen_back=tuple(fallen_back(graph, plan)),
        layers=tuple(align(kernels, plan)),
        kernels=tuple(_heaviest(kernels)),
        doubt=None if spent["gemm"] else "no kernel has the name of a matrix product",
    )


def fallen_back(graph: OnnxGraph, plan: Plan) -> list[FallBack]:
    """Products with both operands quantized in the graph that the plan computes in FP16."""
    in_fp8 = {linear.module for linear in plan.linears() if linear.fp8}
    attentions = {attention.module for attention in plan.attentions()}
    found: dict[str, FallBack] = {}
    for node in graph.nodes:
        module = module_of(node)
        if node.op_type != "MatMul" or module in in_fp8 or None in map(graph.dequantized, node.input):
            continue
        scaled = graph.dequantized(node.input[1])
        if module in attentions:
            reason = _NOT_FP8_ATTENTION
        elif scaled is not None and scaled.tensor in graph.constants:
            reason = f"a side of {list(graph.constants[scaled.tensor].dims)} is no multiple of {FP8_ALIGNMENT}"
        else:
            reason = "attention in a form that is not recognised: computed in FP16, node by node"
        found.setdefault(module, FallBack(module, reason))
    return list(found.values())


def align(kernels: Sequence[Kernel], plan: Plan) -> list[Layer]:
    """The products of the plan with their kernels' times, assigned by order; empty if their numbers differ.

    The patch embedding, which is a convolution in the plan, comes first.
    """
    convolutions = [module_of(step) for step in plan.steps if getattr(step, "op_type", None) == "Conv"]
    modules = [*convolutions, *(name for step in plan.steps if (name := _step_name(step)) is not None)]
    times: list[float] = []
    for kernel in kernels:
        if kernel.kind != "other" and _SECOND.search(kernel.name) and times:
            times[-1] += kernel.duration
        elif kernel.kind != "other":
            times.append(kernel.duration)
    if len(modules) != len(times):
        return []
    return [Layer(module, time) for module, time in zip(modules, times, strict=True)]


def _step_name(step: object) -> str | None:
    if isinstance(step, Linear | Attention):
        return step.module
    if isinstance(step, ActivatedLinear):
        return step.linear.module
    if isinstance(step, LinearGroup):
        return f"{step.members[0].module}{GROUPED}"
    return None


def _heaviest(kernels: Sequence[Kernel], count: int = 12) -> list[tuple[str, int, float]]:
    launches, spent = Counter[str](), defaultdict[str, float](float)
    for kernel in kernels:
        launches[kernel.name] += 1
        spent[kernel.name] += kernel.duration
    return [(name, launches[name], spent[name]) for name in sorted(spent, key=lambda name: -spent[name])[:count]]
