"""A GPU that TensorRT for RTX does not serve: one line says so, wherever an engine is chosen or loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import EngineUnavailable
from tasks.bench import engine_target
from tasks.engines import backend_for, tensorrt
from tasks.engines.available import require_target
from tasks.engines.tensorrt import TensorRtRtx
from tasks.runtime import load_encoder

LINE = (
    "tensorrt-rtx serves no compute capability 9.0, only 7.5, 8.0, 8.6, 8.9, 12.0, 12.1: "
    "where that was tried (9.0), it builds engines and refuses to load them"
)


@pytest.fixture(autouse=True)
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "gpu_count", lambda: 1)
    monkeypatch.setattr(tensorrt, "gpu_capability", lambda: "sm90")
    monkeypatch.setattr(tensorrt, "gpu_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(tensorrt.importlib.util, "find_spec", lambda _: object())


def test_optimize_and_its_evaluation() -> None:
    """Evaluation, latency and comparisons take the reason why a target cannot run from its backend."""
    with pytest.raises(EngineUnavailable) as caught:
        require_target("trtrtx", "fp16", "fp8")
    assert caught.value.what == f"target trtrtx cannot be built here: {LINE}"
    assert backend_for("trtrtx").why_not_run("trtrtx") == LINE
    assert backend_for("trtrtx-sm89").why_not_run("trtrtx-sm89") == LINE
    require_target("trtrtx-sm89", "fp16", "fp8")  # ahead of time for another machine
    require_target("tensorrt", "fp16", "fp8")


def test_the_bench() -> None:
    assert engine_target.why_not("trtrtx", "fp8") == engine_target.why_not("trtrtx", "fp16") == LINE
    assert engine_target.why_not("tensorrt", "fp8") is None


def test_load_encoder(demo_export: Path) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        load_encoder(demo_export, target="trtrtx-sm89")
    assert caught.value.what == f"target trtrtx-sm89 cannot run here: {LINE}"
    with load_encoder(demo_export) as encoder:
        assert encoder.target == "onnxruntime"


@pytest.mark.parametrize("load", [lambda path: TensorRtRtx().runner(path, "x"), TensorRtRtx().resident])
def test_whoever_loads_an_engine_all_the_same(load: Any, demo_export: Path) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        load(demo_export / "text" / "fp8.trtrtx-sm89.engine")
    assert caught.value.what == LINE


@pytest.mark.parametrize("capability", ["sm75", "sm89", "sm121"])
def test_those_that_it_serves(capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "gpu_capability", lambda: capability)
    assert TensorRtRtx().why_not_run("trtrtx") is TensorRtRtx().why_not_build("trtrtx") is None
