"""Bad inputs 19 to 27, 35 and 36: profiles, batches, engines and graphs that are not what they should be."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from artifacts.errors import (
    AuditError,
    BatchOutsideProfile,
    BuilderCrash,
    EngineMismatch,
    Fp8Unavailable,
    ObjectDamaged,
)
from artifacts.store.store import Store
from tasks.device import gpu_state
from tasks.device.gpu import gpu_count
from tasks.device.gpu_state import GpuState
from tasks.device.interleaved import LatencySettings
from tasks.engines import BatchProfile, backend_for
from tasks.engines import tensorrt as tensorrt_backend
from tasks.engines.available import require_target
from tasks.engines.base import Platform
from tasks.engines.checked import CheckedRunner
from tasks.engines.record import read_engine, record_path, write_record
from tasks.pipeline import engine_build, latency
from tasks.pipeline.graph_audit import audit_file
from tasks.quantizing.recipe import load_recipe
from tests.hostile.support import Bad, Workshop, check_complete, digits
from tests.wording import refusal

Refuse = Callable[[Bad], None]
PROFILE = BatchProfile(min=2, opt=4, max=8)

# --- batches -----------------------------------------------------------------------------------------------


def test_19_profile_that_is_not_ordered(shop: Workshop, refuse: Refuse) -> None:
    config = shop.config("profile: {min: 8, opt: 4, max: 16}\n")
    words = ["min 8, opt 4, max 16", "1 <= min <= opt <= max"]
    refuse(Bad(["demo", "--config", config], "ProfileError", words))


def test_19_profile_of_zero(shop: Workshop, refuse: Refuse) -> None:
    refuse(Bad(["demo", "--config", shop.config("profile: {min: 0}\n")], "ProfileError", ["min 0"]))


@pytest.mark.parametrize("batch", [0, 1, 9, 4096])
def test_20_batch_outside_the_profile(batch: int, good_onnx: Path) -> None:
    """Found before the runtime is called, which is native code."""
    import numpy as np

    class Untouched:
        name = "fp8 trtrtx-sm89"

        def __enter__(self) -> None:
            self.real = backend_for("onnxruntime").runner(good_onnx, "x")._runner
            self.real.__enter__()

        def __exit__(self, *error: Any) -> None:
            self.real.__exit__(*error)

        def get_input_metadata(self, **options: Any) -> Any:
            return self.real.get_input_metadata(**options)

        def infer(self, feed: Any, **_: Any) -> Any:
            assert len(feed["input_ids"]) in (2, 8)
            return "called"

    with CheckedRunner(Untouched(), PROFILE) as runner:
        with pytest.raises(BatchOutsideProfile, match=f"a batch of {batch}\n") as caught:
            runner.infer({"input_ids": np.ones((batch, 16), np.int64)})
        check_complete(caught.value, "fp8 trtrtx-sm89", "2 to 8")
        for allowed in (2, 8):
            assert runner.infer({"input_ids": np.ones((allowed, 16), np.int64)}) == "called"


# --- engines -----------------------------------------------------------------------------------------------

HERE = Platform(runtime="tensorrt_rtx", version="1.7.1.116", capability="sm89", gpu="NVIDIA L4")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`machine(gpu=..., capability=..., version=...)`: pretend to be another one; deserializing is out of bounds."""

    def pretend(gpu: str | None, capability: str | None, version: str) -> None:
        monkeypatch.setattr(tensorrt_backend, "gpu_name", lambda: gpu)
        monkeypatch.setattr(tensorrt_backend, "gpu_capability", lambda: capability)
        monkeypatch.setattr(tensorrt_backend, "package_version", lambda _name: version)

    return pretend


class Deserialized(Exception):
    """The engine's bytes would have been handed to native code."""


@pytest.fixture
def engine(tmp_path: Path, machine: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An "engine" as `build` leaves it, built for sm89 by this version, on a machine with an L4."""
    machine("NVIDIA L4", "sm89", "1.7.1.116")
    path = tmp_path / "fp8.trtrtx-sm89.engine"
    path.write_bytes(b"native code")
    write_record(path, "trtrtx-sm89", backend_for("trtrtx-sm89").platform("trtrtx-sm89"), PROFILE)

    def deserialize(**_: object) -> None:
        raise Deserialized

    monkeypatch.setattr(tensorrt_backend, "_choose_flavour", deserialize)  # what comes right after the check
    return path


def run(engine: Path, target: str = "trtrtx-sm89") -> None:
    backend_for(target).runner(engine, f"fp8 {target}")


def test_21_engine_of_this_machine_is_deserialized(engine: Path, machine: Any) -> None:
    with pytest.raises(Deserialized):
        run(engine)
    machine("NVIDIA RTX 4090", "sm89", "1.7.1.116")  # ahead of time means for every GPU of the capability
    with pytest.raises(Deserialized):
        run(engine)


@pytest.mark.parametrize(
    ("gpu", "capability", "version", "words"),
    [
        ("NVIDIA RTX 5090", "sm120", "1.7.1.116", "built for capability sm89, this machine has sm120"),
        ("NVIDIA L4", "sm89", "1.8.0.5", "built for version 1.7.1.116, this machine has 1.8.0.5"),
        (None, None, "1.7.1.116", "built for capability sm89, this machine has none"),
        ("NVIDIA L4", "sm89", "not installed", "this machine has not installed"),
    ],
)
def test_21_engine_from_another_gpu_or_version(
    gpu: str | None, capability: str | None, version: str, words: str, engine: Path, machine: Any
) -> None:
    machine(gpu, capability, version)
    with pytest.raises(EngineMismatch) as caught:
        run(engine)
    check_complete(caught.value, words, str(engine), f"tensorrt_rtx {version}")


def test_21_engine_of_another_runtime(engine: Path) -> None:
    with refusal(EngineMismatch, "fp8.trtrtx-sm89.engine"):
        run(engine, "tensorrt")


def test_21_full_tensorrt_engine_is_for_one_model_of_gpu(tmp_path: Path, machine: Any) -> None:
    machine("NVIDIA L4", "sm89", "10.13")
    path = tmp_path / "fp8.tensorrt.engine"
    path.write_bytes(b"native code")
    write_record(path, "tensorrt", backend_for("tensorrt").platform("tensorrt"), PROFILE)
    machine("NVIDIA RTX 4090", "sm89", "10.13")
    with refusal(EngineMismatch, "fp8.tensorrt.engine"):
        run(path, "tensorrt")


def test_21_engine_without_a_record(engine: Path) -> None:
    record_path(engine).unlink()
    with refusal(EngineMismatch, "fp8.trtrtx-sm89.engine") as caught:
        run(engine)
    check_complete(caught.value, "fp8.trtrtx-sm89.engine.json")


@pytest.mark.parametrize("record", [b"", b"[]", b"{}", b'{"format": 2}', b"\xff", b"[" * 100_000])
def test_21_engine_with_a_malformed_record(record: bytes, engine: Path) -> None:
    record_path(engine).write_bytes(record)
    with pytest.raises(EngineMismatch, match="record cannot be read") as caught:
        run(engine)
    check_complete(caught.value)


def test_21_engine_whose_bytes_changed(engine: Path) -> None:
    engine.write_bytes(b"native c0de")
    with refusal(ObjectDamaged, "fp8.trtrtx-sm89.engine") as caught:
        run(engine)
    check_complete(caught.value, str(engine))


def test_21_real_engines_say_what_they_were_built_for(good_onnx: Path, active: Store) -> None:
    """The record is in the engine's object, so the release's manifest has its digest."""
    pytest.importorskip("tensorrt_rtx")
    from importlib.metadata import version

    with active.staging() as folder:
        (folder / "fp16.onnx").write_bytes(good_onnx.read_bytes())
        graph = active.add("onnx", folder)
    built = engine_build.build(graph, "text", "fp16", "trtrtx-sm120", PROFILE)
    assert [entry.path for entry in built.engine.files] == [
        "fp16.trtrtx-sm120.engine",
        "fp16.trtrtx-sm120.engine.json",
    ]
    path = active.path(built.engine, "fp16.trtrtx-sm120.engine")
    assert json.loads(record_path(path).read_bytes())["platform"] == {
        "runtime": "tensorrt_rtx",
        "version": version("tensorrt-rtx"),
        "capability": "sm120",
        "gpu": None,
    }
    assert built.size == path.stat().st_size
    fits = HERE.model_copy(update={"capability": "sm120", "version": version("tensorrt-rtx")})
    data, record = read_engine(path, fits)
    assert data == path.read_bytes() and record.profile == PROFILE
    with pytest.raises(EngineMismatch, match="capability sm120"):
        read_engine(path, fits.model_copy(update={"capability": "sm89"}))


def test_21_on_a_gpu() -> None:
    pytest.skip("omitted: deserializing a real engine needs a CUDA GPU")


# --- graphs ------------------------------------------------------------------------------------------------

FP8 = load_recipe("fp8")


def audit_refuses(path: Path, skeleton: Any, *words: str) -> None:
    with pytest.raises(AuditError) as caught:
        audit_file(path, skeleton.inventory, None)
    check_complete(caught.value, *words)


def test_good_graphs_pass(good_onnx: Path, external_onnx: Path, text_skeleton: Any) -> None:
    audit_file(good_onnx, text_skeleton.inventory, None)
    audit_file(external_onnx, text_skeleton.inventory, None)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_22_truncated_onnx(share: float, good_onnx: Path, text_skeleton: Any, tmp_path: Path) -> None:
    data = good_onnx.read_bytes()
    (tmp_path / "m.onnx").write_bytes(data[: int(share * len(data))])
    with pytest.raises(AuditError) as caught:
        audit_file(tmp_path / "m.onnx", text_skeleton.inventory, None)
    assert caught.value.where == "m.onnx"


@pytest.mark.parametrize("name", ["text_model.encoder.layers.0.mlp.fc1/MatMul", "text_model.final_layer_norm.bias"])
def test_22_name_that_is_not_text(name: str, good_onnx: Path, text_skeleton: Any, tmp_path: Path) -> None:
    """Found by fuzzing: protobuf gives such names as bytes, and the libraries behind it fail on them."""
    data = good_onnx.read_bytes()
    assert name.encode() in data
    (tmp_path / "m.onnx").write_bytes(data.replace(name.encode(), b"\xf4" * len(name)))
    audit_refuses(tmp_path / "m.onnx", text_skeleton, "is not text", "UTF-8", "m.onnx")


def test_23_external_data_missing(external_onnx: Path, text_skeleton: Any) -> None:
    external_onnx.with_name("fp16.onnx.data").unlink()
    audit_refuses(external_onnx, text_skeleton, "external data file fp16.onnx.data of", "is missing", "fp16.onnx")


def test_24_external_data_short(external_onnx: Path, text_skeleton: Any) -> None:
    """The checker alone is content with it: every byte range is held against the file."""
    with external_onnx.with_name("fp16.onnx.data").open("r+b") as stream:
        stream.truncate(stream.seek(0, os.SEEK_END) - 1)
    onnx.checker.check_model(str(external_onnx))
    audit_refuses(external_onnx, text_skeleton, "is short")


def _named(location: str) -> Callable[[Path], None]:
    def change(graph: Path) -> None:
        model = onnx.load(graph, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        graph.write_bytes(model.SerializeToString())

    return change


def _outside(graph: Path) -> Path:
    return graph.parent.parent / "secret.data"


def _symlink(graph: Path) -> None:
    data = graph.with_name("fp16.onnx.data")
    data.rename(_outside(graph))
    data.symlink_to(_outside(graph))


def _hard_link(graph: Path) -> None:
    os.link(graph.with_name("fp16.onnx.data"), _outside(graph))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_named("../secret.data"), "'../secret.data'"),
        (_named("/etc/passwd"), "'/etc/passwd'"),
        (_named("sub/../fp16.onnx.data"), "'sub/../fp16.onnx.data'"),
        (_named("fp16.onnx.data\0"), "missing"),
        (_symlink, "fp16.onnx.data"),
        (_hard_link, "another hard link"),
    ],
    ids=["parent", "absolute", "winding", "nul", "symlink", "hard link"],
)
def test_25_external_data_elsewhere(
    change: Callable[[Path], None], words: str, external_onnx: Path, text_skeleton: Any
) -> None:
    change(external_onnx)
    audit_refuses(external_onnx, text_skeleton, words, "a plain file beside the graph")


def test_26_fp8_without_q_dq_is_never_published(
    shop: Workshop, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that forgets to quantize and labels its graph FP8 all the same."""
    from tasks.pipeline import onnx_export

    monkeypatch.setattr(onnx_export, "quantize", lambda skeleton, _recipe, _amax: skeleton)
    arguments = [*digits(shop.clip()), "--encoders", "text"]
    refuse(Bad(arguments, "AuditError", ["is fp16 in the graph", "text_model.encoder.layers.0", "fp8, by the recipe"]))


@pytest.mark.parametrize("target", ["trtrtx-sm75", "trtrtx-sm80", "trtrtx-sm86"])
def test_27_gpu_without_fp8(target: str, refuse: Refuse) -> None:
    """Said before any work: the builder's own words would be `Invalid Engine`."""
    capability = target.removeprefix("trtrtx-")
    words = [f"no FP8 engine for target {target}", f"{capability} has no FP8 arithmetic", "--precisions fp16"]
    refuse(Bad(["demo", "--targets", target], "Fp8Unavailable", words, complete=False))
    require_target(target, "fp16")


@pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU")
def test_27_no_gpu_for_torch_fp8(refuse: Refuse) -> None:
    words = ["target torch-fp8 cannot be built here", "no CUDA device is visible to PyTorch", "leave the target out"]
    refuse(Bad(["demo", "--targets", "onnxruntime,torch-fp8"], "EngineUnavailable", words, complete=False))


@pytest.mark.parametrize("target", ["tensorrt", "trtrtx"])
def test_27_this_machines_gpu_without_fp8(target: str, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_backend, "gpu_count", lambda: 1)
    monkeypatch.setattr(tensorrt_backend.importlib.util, "find_spec", lambda _: object())
    machine("NVIDIA A100", "sm80", "1.7")
    with pytest.raises(Fp8Unavailable, match="sm80 has no FP8"):
        require_target(target, "fp16", "fp8")
    require_target(target, "fp16")
    machine("NVIDIA L4", "sm89", "1.7")
    require_target(target, "fp16", "fp8")


# --- builders and timing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV in native code"),
        ("import os; os.abort()", "SIGABRT in native code"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", "most likely out of memory"),
        ("bytearray(1 << 62)", "MemoryError"),
    ],
    ids=["segfault", "abort", "killed for memory", "out of memory"],
)
def test_35_builder_that_dies(
    code: str, words: str, good_onnx: Path, active: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "builder.py").write_text(f"print('the last words', flush=True)\n{code}\n")
    impostor = tmp_path / "python"
    impostor.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path / "builder.py"}" "$@"\n')
    impostor.chmod(0o755)
    with active.staging() as folder:
        (folder / "fp16.onnx").write_bytes(good_onnx.read_bytes())
        graph = active.add("onnx", folder)
    before = sorted(active.root.rglob("*"))
    monkeypatch.setattr(sys, "executable", str(impostor))
    with pytest.raises(BuilderCrash) as caught:
        engine_build.build(graph, "text", "fp16", "onnxruntime", PROFILE)
    check_complete(caught.value, words, "the last words", "onnxruntime")
    assert sorted(active.root.rglob("*")) == before


IDLE = GpuState(utilization=0, clock_mhz=210, reasons=0x1)
FULL = GpuState(utilization=100, clock_mhz=2500, reasons=0x4)


class Timed:
    """A backend on a GPU whose state is told."""

    def __init__(self, *states: GpuState) -> None:
        self.states = list(states)

    def state(self) -> GpuState:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def why_not_run(self, _target: str) -> None:
        return None

    def device(self) -> str:
        return "NVIDIA L4"

    def emulation(self, _precision: str) -> None:
        return None

    def runner(self, engine: Path, name: str) -> Any:
        del engine

        class Runner:
            def __enter__(self) -> Runner:
                return self

            def __exit__(self, *_: object) -> None: ...

            def infer(self, feed: Any) -> None: ...

            def last_inference_time(self) -> float:
                return 0.001 if name.startswith("fp8") else 0.002

        return Runner()


def _time(backend: Timed, store: Store, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    from tasks.demo import SNAPSHOT

    monkeypatch.setattr(latency, "backend_for", lambda _target: backend)
    engines: Any = {}
    for precision in ("fp16", "fp8"):
        with store.staging() as folder:
            (folder / f"{precision}.trtrtx.engine").write_text(precision)
            engines[precision] = store.add("engine", folder)
    snapshot: Any = SimpleNamespace(family="clip", config=json.loads((SNAPSHOT / "config.json").read_text()))
    settings = LatencySettings(batches=[1], rounds=5)
    return list(latency.measure(snapshot, "image", "trtrtx", engines, settings).rows)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ((GpuState(37, 2000, 0),), "busy with other work: 37 %"),
        ((IDLE, GpuState(100, 900, 0x24)), "throttled to 900 MHz: too hot"),
        ((IDLE, GpuState(100, 300, 0x88)), "throttled to 300 MHz: hardware slowdown, power brake"),
    ],
    ids=["busy", "hot", "power brake"],
)
def test_36_gpu_busy_or_throttled(
    states: tuple[GpuState, ...], words: str, active: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_state, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(gpu_state, "_BACK_OFF_S", 0.01)
    for row in _time(Timed(*states), active, monkeypatch):
        assert row["status"] == "invalid" and words in row["note"]
        assert row["speedup"] is row["speedup_low"] is row["speedup_high"] is None
        assert row["median_ms"] > 0  # what was measured is kept, and not believed


def test_36_idle_gpu_at_full_power_is_valid(active: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    busy_at_first = GpuState(80, 2000, 0)
    rows = _time(Timed(busy_at_first, busy_at_first, IDLE, FULL), active, monkeypatch)
    assert [(row["status"], row["note"], row["clock_mhz"]) for row in rows] == [("measured", None, 2500.0)] * 2
    assert rows[1]["speedup"] == pytest.approx(2)


def test_36_reading_a_real_gpu() -> None:
    from tasks.device.gpu import gpu_count

    if not gpu_count():
        assert gpu_state.read_gpu_state() is None
        pytest.skip("omitted: reading NVML needs a GPU")
    state = gpu_state.read_gpu_state()
    assert state is not None and 0 <= state.utilization <= 100 and state.clock_mhz > 0
