"""The GPU that the bench uses: whether there is one, its description, and its state."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tasks.bench.gpu_timing import Run
from tasks.bench.report import Machine
from tasks.bench.roofline import DeviceRates
from tasks.device.gpu_state import GpuState, driver_version, read_gpu_state, settled

if TYPE_CHECKING:
    import torch

DEVICE = "cuda"
_LOAD_S = 0.2


def why_no_gpu() -> str | None:
    """Why nothing can be timed on this machine; None if it can."""
    import torch

    return None if torch.cuda.is_available() else "no CUDA device is visible to PyTorch"


def describe(rates: DeviceRates | None) -> Machine:
    """A description of this machine with its measured rates."""
    import torch

    cuda = torch.cuda.is_available()
    return Machine(
        gpu=torch.cuda.get_device_name() if cuda else None,
        capability="sm{}{}".format(*torch.cuda.get_device_capability()) if cuda else None,
        driver=driver_version() if cuda else None,
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        fp16_flops=rates.fp16 if rates else None,
        fp8_flops=rates.fp8 if rates else None,
        bandwidth=rates.bandwidth if rates else None,
    )


def on_device(feed: Mapping[str, NDArray[Any]]) -> list[torch.Tensor]:
    """Arrays by input name as tensors on the device, in their order."""
    import torch

    return [torch.from_numpy(values).to(DEVICE) for values in feed.values()]


def when_idle() -> GpuState | None:
    """A reading of the GPU's state without our own work."""
    import torch

    torch.cuda.synchronize()
    return settled(read_gpu_state)


def under_load(run: Run) -> tuple[GpuState | None, int | None, float | None]:
    """The GPU's state, temperature (°C) and power (W) while it executes `run`."""
    import torch

    deadline = time.monotonic() + _LOAD_S
    count = 0
    while time.monotonic() < deadline:
        for _ in range(10):
            run(count)
            count += 1
        torch.cuda.current_stream().synchronize()
    for _ in range(10):
        run(count)
    state = read_gpu_state()
    temperature, power = torch.cuda.temperature(), torch.cuda.power_draw() / 1e3
    torch.cuda.synchronize()
    return state, int(temperature), float(power)
