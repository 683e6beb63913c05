"""The CPU in a GPU's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tasks.bench import machine, run, torch_target
from tasks.bench.evidence import Kernel
from tasks.bench.gpu_timing import TimingSettings
from tasks.bench.roofline import DeviceRates
from tasks.device.gpu_state import GpuState
from tasks.torch_fp8 import compiled
from tests.tasks.torch_fp8.scaled_mm import quick_scaled_mm


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[GpuState | None]]]:
    """The CPU in the GPU's place: calls are plain ones, times and readings are made up."""
    fixed = {"torch-eager": 4.0, "torch-compile": 3.0, "fp16": 2.0, "fp8": 1.0}
    states: list[GpuState | None] = [GpuState(0, 1980, 0)]

    def times(runs: Any, settings: TimingSettings) -> Any:

        for function in runs.values():
            function(0)
        return {n: [np.full(3, fixed.get(n.split()[0], fixed[n.split()[1]]))] * settings.rounds for n in runs}

    monkeypatch.setattr(machine, "DEVICE", "cpu")
    monkeypatch.setattr(machine, "why_no_gpu", lambda: None)
    monkeypatch.setattr(run, "measure_rates", lambda: DeviceRates(1e12, 2e12, 1e11))
    monkeypatch.setattr(machine, "when_idle", lambda: GpuState(0, 345, 0))
    monkeypatch.setattr(machine, "under_load", lambda _: (states[0], 40, 650.0))
    monkeypatch.setattr(torch_target, "capture", lambda module, sets: lambda index: module(*sets[index % len(sets)]))
    monkeypatch.setattr(run, "with_transfers", lambda function, _: function)
    monkeypatch.setattr(run, "warm_up", lambda _: True)
    monkeypatch.setattr(run, "interleave", times)
    monkeypatch.setattr(
        torch_target, "profile", lambda _: [Kernel("nvjet_sm90_qqhsh_x", 0, 3.0), Kernel("nvjet_hsh", 1, 1.0)]
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(compiled, "compile_encoder", lambda module: module)
    with quick_scaled_mm():
        yield lambda: states
