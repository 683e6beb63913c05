"""A stand-in for TensorRT's Python API, as far as engines on the device use it: it computes with PyTorch on the CPU.

`test_resident.py` holds its names against the classes of the installed runtime.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any

import torch

Compute = Callable[..., torch.Tensor]


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    INT64 = 2


class LayerInformationFormat(Enum):
    JSON = 1


class IProfiler:
    """Subclassed by whoever wants layers' times."""


TYPES = {torch.float32: DataType.FLOAT, torch.float16: DataType.HALF, torch.int64: DataType.INT64}


def view(address: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """The memory at an address."""
    size = torch.empty(0, dtype=dtype).element_size()
    for side in shape:
        size *= side
    return torch.frombuffer((ctypes.c_char * size).from_address(address), dtype=dtype).reshape(tuple(shape))


class Context:
    """`IExecutionContext`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.profiler: Any = None

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return tuple(shape[1:]) == self.engine.inputs[name][1]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == self.engine.output[0]
        return (next(iter(self.shapes.values()))[0], *self.engine.output[2])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.engine.streams.append(stream_handle)
        if self.engine.refuses:
            return False
        inputs = [view(self.addresses[name], self.shapes[name], d) for name, (d, _) in self.engine.inputs.items()]
        name, dtype, _ = self.engine.output
        view(self.addresses[name], self.get_tensor_shape(name), dtype).copy_(self.engine.compute(*inputs))
        if self.profiler is not None:
            for layer, ms in self.engine.times.items():
                self.profiler.report_layer_time(layer, ms)
        return True


class Engine:
    """`ICudaEngine`; `inputs` are types and shapes after the batch by name, `output` is (name, type, shape)."""

    def __init__(
        self,
        compute: Compute,
        inputs: dict[str, tuple[torch.dtype, tuple[int, ...]]],
        output: tuple[str, torch.dtype, tuple[int, ...]],
        report: str = "{}",
        times: dict[str, float] | None = None,
    ) -> None:
        self.compute = compute
        self.inputs = inputs
        self.output = output
        self.report = report
        self.times = times or {}
        self.refuses = False
        self.streams: list[int] = []
        self.contexts: list[Context] = []

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + 1

    def get_tensor_name(self, index: int) -> str:
        return [self.output[0], *self.inputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return TYPES[self.inputs[name][0] if name in self.inputs else self.output[1]]

    def create_execution_context(self) -> Context:
        self.contexts.append(Context(self))
        return self.contexts[-1]

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(execution_context=None, get_engine_information=lambda _: self.report)


RUNTIME = SimpleNamespace(IProfiler=IProfiler, LayerInformationFormat=LayerInformationFormat)
