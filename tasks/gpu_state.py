"""Whether a GPU was fit to be timed: free of other work before, not slowed down under load. Read from NVML."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass

_BUSY_PERCENT = 5
_PATIENCE_S = 2.0
"""NVML's utilization is that of the last second or less: our own work before the timing must have time to leave it."""
_PAUSE_S = 0.1
_SLOWDOWNS = {0x08: "hardware slowdown", 0x20: "too hot", 0x40: "too hot (hardware)", 0x80: "power brake"}
"""Bits of NVML's clock event reasons. A software power cap (0x04) is how a GPU runs at full load: not a fault."""


@dataclass(frozen=True)
class GpuState:
    """One reading: utilization in percent, SM clock in MHz, and NVML's reasons for a lower clock (bits)."""

    utilization: int
    clock_mhz: int
    reasons: int


def when_idle(read: Callable[[], GpuState | None]) -> GpuState | None:
    """The first reading that shows an idle device, or the last one before patience ended."""
    deadline = time.monotonic() + _PATIENCE_S
    state = read()
    while state is not None and state.utilization > _BUSY_PERCENT and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
        state = read()
    return state


def why_invalid(idle: GpuState | None, loaded: GpuState | None) -> str | None:
    """Why times are not valid, from a reading before any work and one under load; None when they are.

    A device that nothing can be read of is not doubted.
    """
    if idle is not None and idle.utilization > _BUSY_PERCENT:
        return f"the GPU was busy with other work: {idle.utilization} % before timing began"
    if loaded is not None:
        slowed = [name for bit, name in _SLOWDOWNS.items() if loaded.reasons & bit]
        if slowed:
            return f"the GPU was throttled to {loaded.clock_mhz} MHz: {', '.join(slowed)}"
    return None


def read_gpu_state() -> GpuState | None:
    """A reading of the first CUDA device, or None where there is no driver or NVML does not tell."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            device = pynvml.nvmlDeviceGetHandleByPciBusId(_pci_bus_id())
            return GpuState(
                utilization=pynvml.nvmlDeviceGetUtilizationRates(device).gpu,
                clock_mhz=pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM),
                reasons=pynvml.nvmlDeviceGetCurrentClocksEventReasons(device),
            )
        finally:
            pynvml.nvmlShutdown()
    except (pynvml.NVMLError, OSError):
        return None


def _pci_bus_id() -> bytes:
    """Of the first device that CUDA sees; NVML numbers devices in another order."""
    driver, text = ctypes.CDLL("libcuda.so.1"), ctypes.create_string_buffer(32)
    driver.cuInit(0)
    driver.cuDeviceGetPCIBusId(text, len(text), 0)
    return text.value
