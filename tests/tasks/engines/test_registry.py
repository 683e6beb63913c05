"""Targets find their backend, and what a backend says about this machine is true."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from artifacts.errors import ProfileError, UnknownTarget
from tasks.engines import BACKENDS, BatchProfile, backend_for, known_targets
from tasks.engines import tensorrt as backend_module
from tests.wording import refusal


@pytest.mark.parametrize("target", known_targets())
def test_every_known_target_has_one_backend(target: str) -> None:
    assert [backend.accepts(target) for backend in BACKENDS].count(True) == 1
    assert backend_for(target).accepts(target)


def test_targets_are_distinct_and_go_into_file_names() -> None:
    targets = known_targets()
    assert len(set(targets)) == len(targets)
    assert all(target.replace("-", "").isalnum() and target.islower() for target in targets)
    assert {"onnxruntime", "trtrtx-sm89", "trtrtx-sm120", "tensorrt"} <= set(targets)


@pytest.mark.parametrize("target", ["", "cuda", "trtrtx-sm50", "trtrtx-", "TRTRTX-SM89", "onnxruntime ", "../tensorrt"])
def test_unknown_target(target: str) -> None:
    with pytest.raises(UnknownTarget) as caught:
        backend_for(target)
    assert repr(target) in str(caught.value)
    assert all(known in caught.value.expected for known in known_targets())


def test_the_nearest_target_is_told() -> None:
    with refusal(UnknownTarget):
        backend_for("trtrtx-sm1200")


def test_ahead_of_time_targets_are_tensorrt_rtx_capabilities() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    for target in backend_for("trtrtx").targets():
        if target != "trtrtx":
            assert hasattr(trt.ComputeCapability, target.rpartition("-")[2].upper())


# --- batch profiles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "opt", "high"), [(1, 1, 1), (1, 8, 32), (4, 4, 9)])
def test_good_profile(low: int, opt: int, high: int) -> None:
    profile = BatchProfile(min=low, opt=opt, max=high)
    assert (profile.min, profile.opt, profile.max) == (low, opt, high)


@pytest.mark.parametrize(
    ("low", "opt", "high"), [(0, 8, 32), (-1, 8, 32), (9, 8, 32), (1, 33, 32), (1, 8, 7), (0, 0, 0)]
)
def test_bad_profile(low: int, opt: int, high: int) -> None:
    with pytest.raises(ProfileError, match=f"min {low}, opt {opt}, max {high}"):
        BatchProfile(min=low, opt=opt, max=high)


def test_the_default_profile_is_good() -> None:
    BatchProfile()


# --- what this machine can do ------------------------------------------------------------------------------


@pytest.fixture(params=[0, 2])
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(backend_module, "gpu_count", lambda: request.param)
    return request.param


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    names: set[str] = {"tensorrt", "tensorrt_rtx"}
    monkeypatch.setattr(backend_module.importlib.util, "find_spec", lambda name: object() if name in names else None)
    return names


def test_onnx_runtime_builds_and_runs_anywhere() -> None:
    backend = backend_for("onnxruntime")
    assert backend.why_not_build("onnxruntime") is None and backend.why_not_run("onnxruntime") is None


@pytest.mark.parametrize("target", ["tensorrt", "trtrtx", "trtrtx-sm89"])
def test_what_is_not_installed_is_named(target: str, installed: set[str], gpus: int) -> None:
    del gpus
    installed.clear()
    module = backend_for(target).module
    for reason in (backend_for(target).why_not_build(target), backend_for(target).why_not_run(target)):
        assert reason is not None and module in reason and "not installed" in reason


@pytest.mark.parametrize(
    ("target", "needs_gpu"), [("tensorrt", True), ("trtrtx", True), ("trtrtx-sm89", False), ("trtrtx-sm120", False)]
)
def test_building_here_needs_a_gpu_only_without_a_named_capability(
    target: str, needs_gpu: bool, installed: set[str], gpus: int
) -> None:
    assert installed
    reason = backend_for(target).why_not_build(target)
    assert (reason is not None) == (needs_gpu and gpus == 0)
    if reason:
        assert "no CUDA GPU" in reason


def test_an_engine_runs_on_its_own_capability_only(installed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed
    monkeypatch.setattr(backend_module, "gpu_count", lambda: 1)
    monkeypatch.setattr(backend_module, "gpu_capability", lambda: "sm89")
    backend = backend_for("trtrtx")
    assert backend.why_not_run("trtrtx") is None and backend.why_not_run("trtrtx-sm89") is None
    assert "sm89" in backend.why_not_run("trtrtx-sm120")
    monkeypatch.setattr(backend_module, "gpu_count", lambda: 0)
    assert "no CUDA GPU" in backend.why_not_run("trtrtx-sm89")


def test_the_registry_imports_no_runtime() -> None:
    heavy: Any = "{'torch', 'onnxruntime', 'tensorrt', 'tensorrt_rtx', 'polygraphy', 'onnx'}"
    code = f"import sys, tasks.engines; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
