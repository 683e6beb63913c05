"""What TensorRT finds out is kept whole: two builds at once, one that fails, and nothing to keep at all."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from artifacts.store.store import Store
from artifacts.store.verification import verify
from tasks.engines import backend_for
from tasks.engines import tensorrt as tensorrt_backend
from tasks.engines.base import BatchProfile
from tasks.engines.caches import FOLDER_VARIABLE, KernelCache, kept_file, own_copy
from tasks.engines.checked import CheckedRunner
from tests.tasks.engines import fake_tensorrt


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    found = kept_file("timings", "NVIDIA H100 80GB HBM3", "10.16.1.11")
    assert found is not None
    return found


def test_one_file_for_each_gpu_and_version(kept: Path) -> None:
    others = {
        kept_file("timings", "NVIDIA L4", "10.16.1.11"),
        kept_file("timings", "NVIDIA H100 80GB HBM3", "11.1.0.106"),
    }
    assert kept not in others and len(others) == 2
    assert kept.name == "timings-nvidia-h100-80gb-hbm3-10.16.1.11.cache"


def test_without_a_folder_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert kept_file("timings", "NVIDIA L4", "10") is None
    with own_copy(None) as copy:
        assert copy is None


def test_a_build_reads_what_is_kept_and_swaps_its_own_in(kept: Path) -> None:
    with own_copy(kept) as copy:
        assert copy is not None and not copy.exists()
        copy.write_bytes(b"one")
        assert not kept.exists(), "nobody sees it before the build has ended"
    with own_copy(kept) as first, own_copy(kept) as second:
        assert first is not None and second is not None and first != second
        assert first.read_bytes() == second.read_bytes() == b"one"
        first.write_bytes(b"one, two")
        second.write_bytes(b"one, three")
    assert kept.read_bytes() == b"one, two", "the build that ended last"
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_a_build_that_fails_changes_nothing(kept: Path) -> None:
    kept.parent.mkdir()
    kept.write_bytes(b"before")
    with pytest.raises(RuntimeError), own_copy(kept) as copy:
        assert copy is not None
        copy.write_bytes(b"half")
        raise RuntimeError
    assert kept.read_bytes() == b"before"


def test_builds_of_a_flow_keep_them_in_its_store(store: Store) -> None:
    folder = Path(backend_for("tensorrt").environment()[FOLDER_VARIABLE])
    assert folder.parent == store.root
    (folder / "timings-x.cache").write_bytes(b"measured")
    assert verify(store.root).problems == ()
    assert (folder / "timings-x.cache").exists()


def test_a_store_that_cannot_be_written_keeps_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend_for("tensorrt").environment()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != store.root / "cache")
    assert backend_for("tensorrt").environment() == {}


def test_outside_a_flow_there_is_no_place_to_keep_them() -> None:
    assert backend_for("tensorrt").environment() == {}


def test_tensorrt_is_asked_for_level_and_cache(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT needs a GPU: what Polygraphy is told is seen here, what TensorRT makes of it is not."""
    seen: dict[str, Any] = {}
    api = types.ModuleType("polygraphy.backend.trt")

    def create_config(**options: Any) -> Any:
        seen["config"] = options
        return lambda *_: "config"

    def engine_bytes(_: Any, config: Any, save_timing_cache: str | None = None) -> Any:
        seen["save"] = save_timing_cache

        def run() -> bytes:
            config("builder", types.SimpleNamespace(num_inputs=0))
            Path(str(save_timing_cache)).write_bytes(b"measured")
            return b"engine"

        return run

    names = {"CreateConfig": create_config, "EngineBytesFromNetwork": engine_bytes, "Profile": list}
    api.__dict__.update(names, NetworkFromOnnxPath=lambda _, strongly_typed: strongly_typed)
    monkeypatch.setitem(sys.modules, "polygraphy.backend.trt", api)
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)
    monkeypatch.setattr(tensorrt_backend, "gpu_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(tensorrt_backend, "package_version", lambda _name: "10.16.1.11")
    backend_for("tensorrt").build(tmp_path / "m.onnx", tmp_path / "e.engine", "tensorrt", BatchProfile())
    assert seen["config"]["load_timing_cache"] == seen["save"]
    assert seen["config"]["builder_optimization_level"] == tensorrt_backend.BUILDER_LEVEL
    assert (kept.read_bytes(), (tmp_path / "e.engine").read_bytes()) == (b"measured", b"engine")


# --- kernels compiled while an engine ran ------------------------------------------------------------------


class Blob(bytes):
    """`IHostMemory`, as far as it is read."""


class Kernels:
    """`IRuntimeCache`: refuses what another environment has made, as the real one says it does."""

    def __init__(self) -> None:
        self.known = b""

    def deserialize(self, blob: bytes) -> bool:
        if blob.startswith(b"sm89:"):
            self.known = blob
        return self.known == blob

    def serialize(self) -> Blob:
        return Blob(self.known or b"sm89:")


class RuntimeConfig:
    def __init__(self) -> None:
        self.used: Kernels | None = None
        self.dynamic_shapes_kernel_specialization_strategy: Any = None

    def create_runtime_cache(self) -> Kernels:
        return Kernels()

    def set_runtime_cache(self, cache: Kernels) -> bool:
        self.used = cache
        return True


class RtxEngine:
    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, config: RuntimeConfig) -> RuntimeConfig:
        return config


def test_the_stand_ins_have_the_names_of_the_real_classes() -> None:
    rtx = pytest.importorskip("tensorrt_rtx")
    for real, ours in ((rtx.IRuntimeCache, Kernels), (rtx.IRuntimeConfig, RuntimeConfig), (rtx.ICudaEngine, RtxEngine)):
        assert [name for name in vars(ours) if not name.startswith("_") and not hasattr(real, name)] == []
    assert hasattr(rtx.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")


def test_kernels_are_kept_from_one_process_to_the_next(kept: Path) -> None:
    rtx = pytest.importorskip("tensorrt_rtx")
    first = KernelCache(kept)
    context = first.context(RtxEngine())
    assert context.dynamic_shapes_kernel_specialization_strategy == rtx.DynamicShapesKernelSpecializationStrategy.EAGER
    context.used.known = b"sm89: compiled"
    first.keep()
    assert KernelCache(kept).context(RtxEngine()).used.known == b"sm89: compiled"


def test_kernels_of_another_gpu_are_left_out_and_replaced(kept: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    kept.parent.mkdir()
    kept.write_bytes(b"sm120: compiled")
    cache = KernelCache(kept)
    assert cache.context(RtxEngine()).used.known == b""
    cache.keep()
    assert kept.read_bytes() == b"sm89:"


def test_without_a_place_kernels_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.chdir(tmp_path)
    cache = KernelCache(None)
    cache.keep()
    cache.context(RtxEngine())
    cache.keep()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_runner_keeps_them_at_a_good_end_only(fails: bool) -> None:
    said: list[str] = []

    class Runner:
        name = "fp8 trtrtx"

        def __enter__(self) -> None:
            said.append("open")

        def __exit__(self, *_: Any) -> None:
            said.append("closed")

        def get_input_metadata(self, **_: Any) -> dict[str, Any]:
            return {}

    with contextlib.suppress(RuntimeError), CheckedRunner(Runner(), None, lambda: said.append("kept")):
        if fails:
            raise RuntimeError
    assert said == (["open", "closed"] if fails else ["open", "kept", "closed"])
