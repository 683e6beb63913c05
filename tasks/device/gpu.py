"""The CUDA devices that the driver sees, by the driver's own API, without any NVIDIA package."""

from __future__ import annotations

import ctypes
from functools import cache


@cache
def gpu_count() -> int:
    """The number of CUDA devices that the driver sees; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


@cache
def gpu_capability() -> str | None:
    """The first CUDA device's compute capability as `sm89`, or None without one (CUDA driver API attributes 75, 76)."""
    if not gpu_count():
        return None
    driver, major, minor = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, 0)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, 0)
    return f"sm{major.value}{minor.value}"


@cache
def gpu_name() -> str | None:
    """The first CUDA device's name, or None without one."""
    if not gpu_count():
        return None
    name = ctypes.create_string_buffer(256)
    ctypes.CDLL("libcuda.so.1").cuDeviceGetName(name, len(name), 0)
    return name.value.decode()


def torch_gpu() -> str | None:
    """The name of the GPU that PyTorch would use; None without one.

    PyTorch, which takes seconds to import, is asked only where the driver sees a GPU.
    """
    if not gpu_count():
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
