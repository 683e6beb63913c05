"""The executor of an evaluation: whether PyTorch or ONNX Runtime computes the embeddings, and on which device."""

from __future__ import annotations

from typing import Literal

from artifacts.refs import ArtifactRef
from tasks.device.gpu import torch_gpu

Executor = Literal["onnxruntime", "torch"]
"""What executes an exported graph: ONNX Runtime on the CPU, or PyTorch, on a GPU if there is one."""
GPU_BATCH = 128
"""The smallest batch for a GPU: ViT-L/14 keeps a GPU busy with it."""
GPU_BATCH_BYTES = 20 * 10**9
"""The GPU memory in bytes that such a batch needs: attention of 729 tokens in 16 heads takes 13 GB in FP32."""
PAYS_FROM = 256
"""The number of samples from which PyTorch pays on a CPU: it runs FP8 graphs faster than ONNX Runtime, but the check
against ONNX Runtime (`tasks.pipeline.executor_check`) computes 64 samples there in any case."""
PAYS_FROM_BYTES = 50_000_000
"""The size of a graph from which PyTorch pays on a CPU: either evaluates a smaller one in seconds."""


def gpu_batch(batch: int) -> int:
    """The batch size for PyTorch: at least `GPU_BATCH` if there is a GPU with enough memory, else `batch`."""
    return max(batch, GPU_BATCH) if _gpu_memory() >= GPU_BATCH_BYTES else batch


def _gpu_memory() -> int:
    """The GPU's memory in bytes; 0 without a GPU."""
    if torch_gpu() is None:
        return 0
    import torch

    return torch.cuda.get_device_properties().total_memory


def choose_executor(
    asked: Literal["auto", "onnxruntime", "torch"], precision: str, samples: int, graph: ArtifactRef | None
) -> Executor:
    """The executor of `graph` (None: of the FP32 model) on this machine.

    "auto" means PyTorch for everything if it sees a GPU. Without a GPU it means PyTorch only for FP8 graphs of at least
    `PAYS_FROM_BYTES` and at least `PAYS_FROM` samples, because ONNX Runtime converts FP8 values one by one on CPUs.
    """
    if asked != "auto":
        return asked
    if torch_gpu() is not None:
        return "torch"
    if precision == "fp8" and samples >= PAYS_FROM and graph is not None and graph.size >= PAYS_FROM_BYTES:
        return "torch"
    return "onnxruntime"
