"""Who computes the embeddings that accuracy is judged on: PyTorch or ONNX Runtime, and on what."""

from __future__ import annotations

from typing import Literal

from artifacts.refs import ArtifactRef
from tasks.device.gpu import torch_gpu

Executor = Literal["onnxruntime", "torch"]
"""What executes an exported graph: ONNX Runtime on the processor, or PyTorch, on a GPU where there is one."""
GPU_BATCH = 128
"""The least batch that a GPU is given: ViT-L/14 fills one with it."""
GPU_BATCH_BYTES = 20 * 10**9
"""Of a GPU's memory, for that: attention of 729 tokens in 16 heads takes 13 GB in FP32."""
PAYS_FROM = 256
"""Samples. On a processor PyTorch takes less time for an FP8 graph than ONNX Runtime does, but 64 samples go through
ONNX Runtime in any case (`tasks.pipeline.executor_check`)."""
PAYS_FROM_BYTES = 50_000_000
"""Of a graph: a smaller one is evaluated in seconds by either."""


def gpu_batch(batch: int) -> int:
    """A batch for what runs on the GPU where there is one: at least `GPU_BATCH` if that has the memory."""
    return max(batch, GPU_BATCH) if _gpu_memory() >= GPU_BATCH_BYTES else batch


def _gpu_memory() -> int:
    """In bytes; 0 without a GPU."""
    if torch_gpu() is None:
        return 0
    import torch

    return torch.cuda.get_device_properties().total_memory


def choose_executor(
    asked: Literal["auto", "onnxruntime", "torch"], precision: str, samples: int, graph: ArtifactRef | None
) -> Executor:
    """What executes `graph`, or FP32 where there is none, on this machine.

    "auto" is PyTorch for everything where it sees a GPU. Without one it is PyTorch for FP8 graphs alone, of at least
    `PAYS_FROM_BYTES` and for at least `PAYS_FROM` samples: ONNX Runtime converts FP8 values one by one there.
    """
    if asked != "auto":
        return asked
    if torch_gpu() is not None:
        return "torch"
    if precision == "fp8" and samples >= PAYS_FROM and graph is not None and graph.size >= PAYS_FROM_BYTES:
        return "torch"
    return "onnxruntime"
