"""A small encoder pair whose heads are of a size that our kernels are written for, and the CPU in a GPU's place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from tasks.bench import machine, run, torch_target
from tasks.bench.evidence import Kernel
from tasks.bench.gpu_timing import TimingSettings
from tasks.bench.roofline import DeviceRates
from tasks.device.gpu_state import GpuState
from tasks.torch_fp8 import compiled
from tests.benchmarks.architectures import Architecture, Tower

SMALL = Architecture("small", Tower(2, 128, 2, 256), Tower(2, 128, 2, 256), 56, 64, "quick_gelu")


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FP16 and FP8 of both encoders, random weights; do not change it."""
    from tests.gpu.exports import make_export

    folder = tmp_path_factory.mktemp("bench")
    return make_export(folder / "small", SMALL, folder / "skeletons", "cpu")


@pytest.fixture(scope="session")
def by_channel(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FP8 graphs of `export` with weight scales by channel, drawn over two decades: `<encoder>.onnx`."""
    folder = tmp_path_factory.mktemp("by-channel")
    for encoder in ("image", "text"):
        model = onnx.load(str(export / encoder / "fp8.onnx"))
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        rng = np.random.default_rng(5)
        for node in model.graph.node:
            weight = constants.get(node.input[0])
            if node.op_type == "DequantizeLinear" and weight is not None and len(weight.dims) == 2:
                columns = weight.dims[1]
                scale = float(numpy_helper.to_array(constants[node.input[1]]))
                scales = scale * 10 ** rng.uniform(-1, 1, columns)
                made = numpy_helper.from_array(scales.astype(np.float16), f"{node.name}.scales")
                zeros = helper.make_tensor(f"{node.name}.zeros", 17, [columns], bytes(columns), raw=True)
                model.graph.initializer.extend([made, zeros])
                node.input[1:] = [made.name, zeros.name]
                node.attribute.append(helper.make_attribute("axis", 1))
        onnx.save(model, str(folder / f"{encoder}.onnx"))
    return folder


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[GpuState | None]]:
    """The CPU in the GPU's place: calls are plain ones, times and readings are made up."""
    fixed = {"torch-eager": 4.0, "torch-compile": 3.0, "fp16": 2.0, "fp8": 1.0}
    states: list[GpuState | None] = [GpuState(0, 1980, 0)]

    def times(runs: Any, settings: TimingSettings) -> Any:
        import numpy as np

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
    return lambda: states
