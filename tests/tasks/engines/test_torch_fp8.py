"""Target torch-fp8 without a GPU: what it says, what it refuses, and (heavy) the same code compiled for the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.torch_version import TorchVersion

from artifacts.errors import (
    BatchOutsideProfile,
    BuildError,
    EngineMismatch,
    EngineUnavailable,
    ObjectDamaged,
    WrongInput,
)
from artifacts.store.store import Store
from tasks.demo import SNAPSHOT
from tasks.engines import BatchProfile, backend_for, base
from tasks.engines import torch_fp8 as module
from tasks.engines.available import require_target
from tasks.engines.record import write_record
from tasks.engines.torch_fp8 import TorchFp8
from tasks.torch_fp8 import aot, compiled, cuda_toolkit
from tests.tasks.families.support import cosines
from tests.wording import refusal

TARGET = "torch-fp8"
PROFILE = BatchProfile(min=2, opt=4, max=6)
Pretend = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """`machine(gpu=..., capability=..., version=...)`: another one, with CUDA's toolkit."""

    def pretend(
        gpu: str | None = "NVIDIA H100", capability: tuple[int, int] = (9, 0), version: str = "2.11.0+cu130"
    ) -> None:
        monkeypatch.setattr(torch, "__version__", TorchVersion(version))
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        for place in (module, base):
            monkeypatch.setattr(place, "gpu_name", lambda: gpu)
        monkeypatch.setattr(module, "gpu_capability", lambda: None if gpu is None else "sm{}{}".format(*capability))
        monkeypatch.setattr(cuda_toolkit, "why_no_toolkit", lambda: None)

    return pretend


# --- what a machine can do ---------------------------------------------------------------------------------


def both() -> tuple[str | None, str | None]:
    backend = backend_for(TARGET)
    return backend.why_not_build(TARGET), backend.why_not_run(TARGET)


def test_a_hopper_gpu_builds_and_runs(machine: Pretend) -> None:
    for capability in ((8, 9), (9, 0), (10, 0), (12, 0)):
        machine(capability=capability)
        assert both() == (None, None)
        require_target(TARGET, "fp16", "fp8")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpu": None}, "no CUDA device is visible to PyTorch"),
        ({"capability": (8, 0)}, "sm80 has no FP8 arithmetic"),
        ({"version": "2.10.1"}, "PyTorch 2.10.1 is too old, it needs 2.11 or newer"),
        ({"version": "2.9.0+cu128"}, "PyTorch 2.9.0"),
    ],
)
def test_what_is_missing_is_said_before_any_work(changes: dict[str, Any], words: str, machine: Pretend) -> None:
    machine(**changes)
    for reason in both():
        assert reason is not None and words in reason
    with pytest.raises(EngineUnavailable, match=f"target torch-fp8 cannot be built here: {words}"):
        require_target(TARGET, "fp16", "fp8")


def test_a_gpu_that_this_pytorch_does_not_see(machine: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    machine()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert both() == ("no CUDA device is visible to PyTorch 2.11.0+cu130",) * 2


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    assert both() == ("the package torch is not installed",) * 2


def test_without_a_toolkit_it_runs_what_is_built(machine: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    machine()
    monkeypatch.setattr(cuda_toolkit, "why_no_toolkit", lambda: "no headers")
    assert both() == ("no headers", None)


def test_a_package_is_for_a_capability_and_a_pytorch(machine: Pretend) -> None:
    machine()
    backend = backend_for(TARGET)
    platform = backend.platform(TARGET)
    assert (platform.runtime, platform.version, platform.capability, platform.gpu) == (
        "torch-fp8",
        "2.11.0+cu130, CUDA 13.0",
        "sm90",
        None,
    )
    before = backend.built_for(TARGET)
    machine(version="2.12.0+cu130")
    assert before == "NVIDIA H100, 2.11.0+cu130, CUDA 13.0" != backend.built_for(TARGET)


# --- running a package -------------------------------------------------------------------------------------


class Package:
    """A package that `compiled.load_package` could have loaded: twice its input, in FP16."""

    def __init__(self, _: Path) -> None:
        pass

    def get_metadata(self) -> dict[str, str]:
        ports = (
            '[{"name": "ids", "dtype": "int64", "shape": [3]}, {"name": "embeds", "dtype": "float16", "shape": [3]}]'
        )
        return {"clipsmith.ports": ports}

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        return (ids * 2).half()


@pytest.fixture
def engine(tmp_path: Path, machine: Pretend, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for a package that was built on an H100; its loader is replaced, and works on the CPU."""
    machine()
    path = tmp_path / "fp8.torch-fp8.engine"
    path.write_bytes(b"native code")
    write_record(path, TARGET, backend_for(TARGET).platform(TARGET), PROFILE)
    monkeypatch.setattr(module, "_DEVICE", "cpu")
    monkeypatch.setattr(compiled, "load_package", Package)
    return path


def test_it_gives_the_output_by_its_name(engine: Path) -> None:
    with backend_for(TARGET).runner(engine, "fp8 torch-fp8") as runner:
        assert (runner.name, runner.smallest) == ("fp8 torch-fp8", 2)
        assert dict(runner.forms) == {"ids": (np.dtype("int64"), (None, 3))}
        got = runner.infer({"ids": np.arange(6).reshape(2, 3)})
        assert list(got) == ["embeds"] and got["embeds"].dtype == np.float16
        assert got["embeds"].tolist() == [[0, 2, 4], [6, 8, 10]]
        assert runner.last_inference_time() > 0


def test_inputs_are_looked_at_before_native_code(engine: Path) -> None:
    with backend_for(TARGET).runner(engine, "fp8 torch-fp8") as runner:
        for batch in (1, 7):
            with pytest.raises(BatchOutsideProfile, match="2 to 6"):
                runner.infer({"ids": np.zeros((batch, 3), np.int64)})
        for wrong in (
            {"x": np.zeros((2, 3), np.int64)},
            {"ids": np.zeros((2, 4), np.int64)},
            {"ids": np.zeros((2, 3))},
        ):
            with pytest.raises(WrongInput):
                runner.infer(wrong)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"capability": (8, 9)}, "built for capability sm90, this machine has sm89"),
        ({"version": "2.12.0+cu130"}, "this machine has 2.12.0"),
        ({"gpu": None}, "this machine has none"),
    ],
)
def test_another_machines_package_is_not_loaded(
    changes: dict[str, Any], words: str, engine: Path, machine: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "load_package", lambda _: pytest.fail("it was loaded"))
    machine(**changes)
    with pytest.raises(EngineMismatch, match=words):
        backend_for(TARGET).runner(engine, "fp8 torch-fp8")


def test_changed_bytes_are_not_loaded(engine: Path) -> None:
    engine.write_bytes(b"native c0de")
    with refusal(ObjectDamaged, "fp8.torch-fp8.engine"):
        backend_for(TARGET).runner(engine, "fp8 torch-fp8")


def test_what_was_checked_is_what_is_loaded(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[bytes] = []
    monkeypatch.setattr(compiled, "load_package", lambda path: loaded.append(path.read_bytes()) or Package(path))
    runner = backend_for(TARGET).runner(engine, "fp8 torch-fp8")
    engine.write_bytes(b"something else")
    with runner:
        assert loaded == [b"native code"]


def test_what_pytorch_refuses_is_a_refused_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DEVICE", "cpu")
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with refusal(BuildError):
        backend_for(TARGET).build(tmp_path / "m.onnx", tmp_path / "e.engine", TARGET, PROFILE)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


# --- compiled for the CPU ----------------------------------------------------------------------------------


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole backend, with the CPU in the GPU's place and the kernels' written-out forms in theirs."""
    for name in ("why_not_run", "why_not_build"):
        monkeypatch.setattr(TorchFp8, name, lambda *_: None)
    monkeypatch.setattr(module, "_DEVICE", "cpu")
    monkeypatch.setattr(aot, "own_kernels", lambda _: True)


@pytest.mark.heavy
@pytest.mark.usefixtures("on_the_cpu")
def test_it_computes_what_the_onnx_file_says(
    demo_graph: Any, random_inputs: Any, run_onnx: Any, tmp_path: Path
) -> None:
    backend, engine = backend_for(TARGET), tmp_path / "fp8.torch-fp8.engine"
    backend.build(demo_graph("image", "fp8"), engine, TARGET, PROFILE)
    write_record(engine, TARGET, backend.platform(TARGET), PROFILE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [engine.name, f"{engine.name}.json"]
    with backend.runner(engine, "x") as runner:
        for batch in (2, 3, 6):
            inputs = random_inputs(SNAPSHOT, "image", batch)
            got = runner.infer({"pixel_values": inputs})["image_embeds"]
            assert got.dtype == np.float16
            assert cosines(got, run_onnx(demo_graph("image", "fp8"), inputs)).min() > 0.99
        with pytest.raises(BatchOutsideProfile):
            runner.infer({"pixel_values": random_inputs(SNAPSHOT, "image", 7)})


@pytest.mark.heavy
@pytest.mark.usefixtures("on_the_cpu")
def test_a_whole_run_publishes_and_serves_it(small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`optimize` and `load_encoder`; the build runs in this process, which is the one that has the CPU in the GPU's
    place."""
    import flows.wiring
    from artifacts.copies.exporting import export
    from flows.optimize import optimize
    from flows.parameters import OptimizeParameters
    from tasks.pipeline import engine_build
    from tasks.runs.steps import StepStats
    from tasks.runtime import load_encoder
    from tests.flows.conftest import small_parameters

    def in_this_process(job: Any) -> tuple[StepStats, str]:
        backend_for(TARGET).build(job.onnx, job.engine, job.target, job.profile)
        return StepStats(wall_s=1.0, peak_rss_mb=1.0), "built"

    monkeypatch.setattr(engine_build, "build_in_child", in_this_process)
    monkeypatch.setattr(flows.wiring, "builds_at_once", lambda _: 1)
    values = small_parameters(small_clip, tmp_path / "store", targets=[TARGET], encoders=["text"])
    optimize(OptimizeParameters.model_validate(values))
    store = Store.open(tmp_path / "store")
    (manifest,) = store.releases()
    rows = manifest.tables["accuracy"]
    mine = {r["precision"]: r["value"] for r in rows if (r["target"], r["metric"]) == (TARGET, "cosine_mean")}
    assert mine["fp16"] > 0.9999 and mine["fp8"] > 0.97
    assert {r["status"] for r in manifest.tables["latency"]} == {"measured"}
    export(store, manifest, tmp_path / "release")
    texts = ["a photo of the digit number three", "five"]
    with (
        load_encoder(tmp_path / "release", precision="fp8") as packed,
        load_encoder(tmp_path / "release", target="onnxruntime", precision="fp8") as plain,
    ):
        assert (packed.target, packed.precision) == (TARGET, "fp8")
        assert (packed.embed_texts(texts) * plain.embed_texts(texts)).sum(1).min() > 0.99
    script = (tmp_path / "release" / "scripts" / "build-text-fp8-torch-fp8.sh").read_text()
    assert "python -m tasks.torch_fp8.aot build text/fp8.onnx" in script
