"""A PyTorch encoder as a Polygraphy runner, so that it takes part in comparisons like any engine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata

from tasks.clip.base import EncoderSpec
from tasks.clip.hugging_face import ClipFamily
from tasks.quantizing.calibration_feed import full_precision

if TYPE_CHECKING:
    import numpy as np


class TorchRunner(BaseRunner):  # type: ignore[misc]  # Polygraphy has no type hints
    """Runs `family.encode` in FP32, with TF32 off, on `device`: "cpu" or "cuda"."""

    def __init__(self, model: torch.nn.Module, family: ClipFamily, spec: EncoderSpec, device: str = "cpu") -> None:
        super().__init__(name="fp32 pytorch")
        self._model = model.to(device)
        self._device = device
        self._family = family
        self._spec = spec

    def activate_impl(self) -> None:
        """Nothing to do: the model is loaded already."""

    def get_input_metadata_impl(self) -> TensorMetadata:
        metadata = TensorMetadata()
        for item in self._spec.inputs:
            dtype = "float32" if item.dtype == "float16" else item.dtype
            metadata.add(item.name, dtype=dtype, shape=(-1, *item.shape))
        return metadata

    def infer_impl(self, feed_dict: dict[str, Any]) -> dict[str, np.ndarray]:
        start = time.perf_counter()
        inputs = [torch.from_numpy(feed_dict[item.name]).to(self._device) for item in self._spec.inputs]
        with torch.inference_mode(), full_precision():
            output = self._family.encode(self._model, self._spec.encoder, *inputs).cpu()
        self.inference_time = time.perf_counter() - start
        return {self._spec.output: output.numpy()}
