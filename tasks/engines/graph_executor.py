"""Executing an exported ONNX graph with PyTorch, node by node, to evaluate FP16 and FP8 graphs on a GPU.

`tasks.evaluation.judge` compares it with ONNX Runtime.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata

from tasks.torch_fp8.torch_graph import Loaded, load_literal


class GraphExecutor(BaseRunner):  # type: ignore[misc]  # Polygraphy has no type hints
    """A Polygraphy runner for one of our ONNX files on `device` ("cuda" or "cpu"); it takes any batch size.

    On a GPU, products are accumulated in FP32.
    """

    def __init__(self, path: Path, name: str, device: str) -> None:
        super().__init__(name=name)
        self._path = path
        self._device = device
        self._loaded: Loaded | None = None

    def activate_impl(self) -> None:
        """Load the graph.

        Raises:
            UnknownOperator: it has an operator that clipsmith's export does not write.
        """
        self._loaded = load_literal(self._path, self._device)

    def deactivate_impl(self) -> None:
        """Free the memory."""
        self._loaded = None

    def get_input_metadata_impl(self) -> TensorMetadata:
        assert self._loaded is not None
        metadata = TensorMetadata()
        for port in self._loaded.graph.inputs:
            metadata.add(port.name, dtype=port.dtype, shape=(-1, *port.shape))
        return metadata

    def infer_impl(self, feed_dict: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The output, FP16, (n, d)."""
        assert self._loaded is not None
        start = time.perf_counter()
        output = run_graph(self._loaded, feed_dict, self._device).cpu().numpy()
        self.inference_time = time.perf_counter() - start
        return {self._loaded.graph.outputs[0].name: output}


def run_graph(loaded: Loaded, feed: dict[str, NDArray[Any]], device: str) -> torch.Tensor:
    """The graph's output for one batch, on the device."""
    with torch.inference_mode(), accumulated_in_fp32():
        return loaded.module(*graph_inputs(loaded, feed, device))


def graph_inputs(loaded: Loaded, feed: dict[str, NDArray[Any]], device: str) -> list[torch.Tensor]:
    """A batch on the device, in the order of the graph's inputs."""
    return [torch.from_numpy(np.ascontiguousarray(feed[port.name])).to(device) for port in loaded.graph.inputs]


@contextmanager
def accumulated_in_fp32() -> Iterator[None]:
    """Inside the block, accumulate FP16 products on a GPU only in FP32; by default PyTorch allows FP16 partial sums."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_fp16_reduced_precision_reduction
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        matmul.allow_fp16_reduced_precision_reduction = before
