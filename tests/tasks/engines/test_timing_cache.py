"""Measurements are kept whole: two builds at once, one that fails, and nothing to keep at all."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from artifacts.store import Store
from artifacts.verification import verify
from tasks.engines import backend_for
from tasks.engines import tensorrt as tensorrt_backend
from tasks.engines.base import BatchProfile
from tasks.engines.timing_cache import FOLDER_VARIABLE, kept_file, own_copy


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    found = kept_file("NVIDIA H100 80GB HBM3", "10.16.1.11")
    assert found is not None
    return found


def test_one_file_for_each_gpu_and_version(kept: Path) -> None:
    others = {kept_file("NVIDIA L4", "10.16.1.11"), kept_file("NVIDIA H100 80GB HBM3", "11.1.0.106")}
    assert kept not in others and len(others) == 2
    assert kept.name == "timing-nvidia-h100-80gb-hbm3-10.16.1.11.cache"


def test_without_a_folder_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert kept_file("NVIDIA L4", "10") is None
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
    (folder / "timing-x.cache").write_bytes(b"measured")
    assert verify(store.root).problems == ()
    assert (folder / "timing-x.cache").exists()


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
    monkeypatch.setattr(tensorrt_backend, "gpu_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(tensorrt_backend, "package_version", lambda _name: "10.16.1.11")
    backend_for("tensorrt").build(tmp_path / "m.onnx", tmp_path / "e.engine", "tensorrt", BatchProfile())
    assert seen["config"]["load_timing_cache"] == seen["save"]
    assert seen["config"]["builder_optimization_level"] == tensorrt_backend.BUILDER_LEVEL
    assert (kept.read_bytes(), (tmp_path / "e.engine").read_bytes()) == (b"measured", b"engine")
