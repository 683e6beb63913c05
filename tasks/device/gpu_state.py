"""Whether a GPU was fit to be timed, read from NVML: idle before the timing, and not throttled under load."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tasks.runs.run_log import say

_BUSY_PERCENT = 5
_PATIENCE_S = 2.0
"""Seconds during which a busy reading is repeated: NVML's utilization covers the last second or less, and so may show
our own earlier work."""
_PAUSE_S = 0.1
_ATTEMPTS = 4
_BACK_OFF_S = 5.0
"""Seconds until a busy GPU is read again, doubled each time; 35 s in all."""
_SLOWDOWNS = {0x08: "hardware slowdown", 0x20: "too hot", 0x40: "too hot (hardware)", 0x80: "power brake"}
"""Bits of NVML's clock event reasons. A software power cap (0x04) is normal at full load, so it is not a fault."""

T = TypeVar("T")


@dataclass(frozen=True)
class GpuState:
    """One reading: utilization in percent, SM clock in MHz, and NVML's reasons for a lower clock (bits)."""

    utilization: int
    clock_mhz: int
    reasons: int


def when_idle(read: Callable[[], GpuState | None]) -> GpuState | None:
    """The first reading that shows an idle device, or the last reading if it stays busy for too long."""
    from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_exponential

    retrying = Retrying(
        retry=retry_if_result(_is_busy),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(_BACK_OFF_S),
        before_sleep=lambda attempt: say(
            f"the GPU is busy with other work: looking again in {attempt.upcoming_sleep:.0f} s"
        ),
        retry_error_callback=lambda last: last.outcome.result() if last.outcome else None,
    )
    return retrying(settled, read)


def settled(read: Callable[[], GpuState | None]) -> GpuState | None:
    """The first reading that shows an idle device, or the last one after our own work must have left NVML's window."""
    deadline = time.monotonic() + _PATIENCE_S
    state = read()
    while _is_busy(state) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
        state = read()
    return state


def _is_busy(state: GpuState | None) -> bool:
    return state is not None and state.utilization > _BUSY_PERCENT


def why_invalid(idle: GpuState | None, loaded: GpuState | None) -> str | None:
    """Why times are not valid, from a reading before any work and one under load; None if they are valid.

    Without readings, times count as valid.
    """
    if idle is not None and _is_busy(idle):
        return f"the GPU was busy with other work: {idle.utilization} % before timing began"
    if loaded is not None:
        slowed = [name for bit, name in _SLOWDOWNS.items() if loaded.reasons & bit]
        if slowed:
            return f"the GPU was throttled to {loaded.clock_mhz} MHz: {', '.join(slowed)}"
    return None


def read_gpu_state() -> GpuState | None:
    """A reading of the first CUDA device; None without a driver, or if NVML does not give one."""
    return _ask(
        lambda nvml, device: GpuState(
            utilization=nvml.nvmlDeviceGetUtilizationRates(device).gpu,
            clock_mhz=nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
            reasons=nvml.nvmlDeviceGetCurrentClocksEventReasons(device),
        )
    )


def gpu_uuid() -> str | None:
    """The first CUDA device's UUID (`GPU-...`); None without a driver, or if NVML does not give it."""
    return _ask(lambda nvml, device: str(nvml.nvmlDeviceGetUUID(device)))


def driver_version() -> str | None:
    """The NVIDIA driver's version; None without a driver, or if NVML does not give it."""
    return _ask(lambda nvml, _: str(nvml.nvmlSystemGetDriverVersion()))


def _ask(read: Callable[[Any, Any], T]) -> T | None:
    """The result of `read(nvml, device)` for the first CUDA device; None if NVML cannot be used."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            # NVML numbers devices in another order than CUDA, so CUDA's first one is found by its PCI bus id.
            driver, bus_id = ctypes.CDLL("libcuda.so.1"), ctypes.create_string_buffer(32)
            driver.cuInit(0)
            driver.cuDeviceGetPCIBusId(bus_id, len(bus_id), 0)
            return read(pynvml, pynvml.nvmlDeviceGetHandleByPciBusId(bus_id.value))
        finally:
            pynvml.nvmlShutdown()
    except (pynvml.NVMLError, OSError):
        return None
