"""A stand-in for the module `tensorrt` as a builder: what is asked of it is kept in `ASKED`; it builds nothing.

`CLIPSMITH_FAKE_TENSORRT` is the version that it stands for. In 11 every network is strongly typed, and what weak typing
needed is gone; here the flag for strong typing is gone too, which 11.4 still takes and ignores.
"""

# ruff: noqa: ARG001, ARG002
from __future__ import annotations

import os
from enum import IntEnum
from pathlib import Path
from typing import Any

__version__ = os.environ.get("CLIPSMITH_FAKE_TENSORRT", "10.14.1.48")
_BEFORE_11 = int(__version__.split(".")[0]) < 11
ASKED: dict[str, Any] = {}


class BuilderFlag(IntEnum):
    TF32 = 7


class ProfilingVerbosity(IntEnum):
    DETAILED = 2


class DeviceType(IntEnum):
    GPU = 0
    DLA = 1


if _BEFORE_11:

    class NetworkDefinitionCreationFlag(IntEnum):
        EXPLICIT_BATCH = 0
        STRONGLY_TYPED = 1

else:

    class NetworkDefinitionCreationFlag(IntEnum):  # type: ignore[no-redef]
        PREFER_AOT_PYTHON_PLUGINS = 4


class ILogger:
    def __init__(self) -> None: ...


class Logger(ILogger):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class IOutputAllocator: ...


class IDebugListener: ...


class _Tensor:
    name, shape = "pixel_values", (-1, 3, 32, 32)
    dtype, is_shape_tensor = "HALF", False


class _Network:
    num_inputs = num_layers = num_outputs = 1

    def get_input(self, index: int) -> _Tensor:
        assert index == 0
        return _Tensor()

    def __iter__(self) -> Any:
        return iter(())


class _Profile:
    def set_shape(self, name: str, *sizes: tuple[int, ...]) -> None:
        ASKED["shapes"] = [name, *map(list, sizes)]

    def get_shape(self, name: str) -> list[tuple[int, ...]]:
        assert name == _Tensor.name
        return [_Tensor.shape] * 3


class _Cache:
    def combine(self, other: _Cache, ignore_mismatch: bool) -> bool:
        return True

    def serialize(self) -> Any:
        return memoryview(b"measured")


class _Config:
    profiling_verbosity: ProfilingVerbosity
    builder_optimization_level = -1
    num_optimization_profiles = 0
    DLA_core, default_device_type = -1, DeviceType.GPU

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.num_optimization_profiles += 1
        return 0

    def clear_flag(self, flag: BuilderFlag) -> None:
        ASKED.setdefault("cleared", []).append(flag.name)

    def get_flag(self, flag: BuilderFlag) -> bool:
        return False

    def create_timing_cache(self, data: bytes) -> _Cache:
        return _Cache()

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> bool:
        return True

    def get_timing_cache(self) -> _Cache:
        return _Cache()


class Builder:
    def __init__(self, logger: ILogger) -> None: ...

    def create_network(self, flags: int = 0) -> _Network:
        ASKED["strongly_typed"] = not _BEFORE_11 or bool(flags & (1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        ASKED["flags"] = flags
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes:
        ASKED["level"] = config.builder_optimization_level
        ASKED["verbosity"] = config.profiling_verbosity.name
        ASKED["profiles"] = config.num_optimization_profiles
        return b"engine"


class OnnxParser:
    num_errors = 0

    def __init__(self, network: _Network, logger: ILogger) -> None: ...

    def parse_from_file(self, path: str) -> bool:
        return Path(path).exists()


def init_libnvinfer_plugins(logger: ILogger, namespace: str) -> bool:
    return True
