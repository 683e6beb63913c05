"""Engines in the bench: reasons, building and taking them, CUDA graphs or not, and the whole course with a stand-in."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from artifacts.errors import EngineFailed
from tasks.bench import engine_target, gpu_timing, run, variant
from tasks.bench.engine_target import EngineVariant, why_not
from tasks.bench.gpu_timing import TimingSettings, capture_if_possible
from tasks.bench.report import markdown
from tasks.bench.settings import BenchSettings
from tasks.engines import BatchProfile, child, tensorrt
from tasks.engines.base import Platform
from tasks.engines.record import write_record
from tasks.engines.resident import DeviceEngine
from tasks.torch_fp8.onnx_graph import OnnxGraph, module_of, random_inputs
from tasks.torch_fp8.torch_graph import load
from tests.tasks.engines import runtime
from tests.tasks.engines.runtime import RUNTIME, Engine
from tests.wording import refusal

FAST = TimingSettings(rounds=4, input_sets=2)
FITTING = 2 + 2 + 1
"""Contexts: 4 samples by threes, then two sets of inputs of the first batch size, and one that is profiled."""


def machine(monkeypatch: pytest.MonkeyPatch, capability: str | None, *installed: str) -> None:
    """A GPU of this capability, or none, and these packages."""
    found = importlib.util.find_spec
    known = ("tensorrt", "tensorrt_rtx", "polygraphy", "pydantic")
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: (n in installed or None) if n in known else found(n))
    monkeypatch.setattr(tensorrt, "gpu_count", lambda: 0 if capability is None else 1)
    monkeypatch.setattr(tensorrt, "gpu_capability", lambda: capability)
    monkeypatch.setattr(tensorrt, "gpu_name", lambda: None if capability is None else "NVIDIA Test")


ALL = ("tensorrt", "tensorrt_rtx", "polygraphy", "pydantic")


@pytest.mark.parametrize(
    ("target", "capability", "installed", "reason"),
    [
        ("tensorrt", "sm89", (), "the package pydantic is not installed (pip install pydantic)"),
        ("tensorrt", "sm89", ("pydantic",), "the package polygraphy is not installed (pip install polygraphy)"),
        ("tensorrt", "sm89", ALL[1:], "the package tensorrt is not installed (pip install tensorrt)"),
        ("trtrtx", "sm89", (ALL[0], *ALL[2:]), "the package tensorrt_rtx is not installed (pip install tensorrt-rtx)"),
        ("tensorrt", None, ALL, "this machine has no CUDA GPU"),
        ("trtrtx", None, ALL, "this machine has no CUDA GPU"),
        ("tensorrt", "sm86", ALL, "sm86 has no FP8 arithmetic, GPUs have it from sm89 on"),
        ("tensorrt", "sm90", ALL, None),
    ],
)
def test_why_fp8_engines_cannot_be_made(
    target: str, capability: str | None, installed: Any, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, capability, *installed)
    assert why_not(target, "fp8") == reason


def test_fp16_needs_no_fp8_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "sm86", *ALL)
    assert why_not("tensorrt", "fp16") is None


def test_a_real_engine_is_built_and_its_runtime_asked(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ahead of time for SM89, as target `trtrtx` would on such a GPU; to load it takes one."""
    pytest.importorskip("tensorrt_rtx")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    built: list[Any] = []
    build = child.build_in_child

    def for_sm89(job: child.Job) -> Any:
        done = build(job.model_copy(update={"target": "trtrtx-sm89"}))
        built.append((job.profile, job.engine.stat().st_size))
        return done

    monkeypatch.setattr(child, "build_in_child", for_sm89)
    monkeypatch.setattr(tensorrt, "gpu_capability", lambda: "sm89")
    with refusal(EngineFailed, "fp8.trtrtx.engine"):
        EngineVariant.load(export / "text" / "fp8.onnx", "trtrtx", (4, 1, 16))
    ((profile, size),) = built
    assert profile == BatchProfile(min=1, opt=16, max=16)
    assert size > 100_000


# --- engines that a release brought along ------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path: Path, export: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`shipped(profile, gpu)`: a release's folder with an engine of that profile and GPU, and what becomes of it."""
    machine(monkeypatch, "sm89", *ALL)
    monkeypatch.setattr(tensorrt, "package_version", lambda _: "10")
    monkeypatch.setattr(engine_target, "_built", lambda *_: DeviceEngine(RUNTIME, stand_in(export), int, int, NEW))

    def resident(self: Any, engine: Path) -> DeviceEngine:
        _, record = tensorrt.read_engine(engine, self._here())
        return DeviceEngine(RUNTIME, stand_in(export), int, int, record.profile)

    monkeypatch.setattr(tensorrt.TensorRt, "resident", resident)

    def load_from(profile: BatchProfile, gpu: str) -> BatchProfile:
        shutil.copy(export / "text" / "fp16.onnx", tmp_path)
        engine = tmp_path / "fp16.tensorrt.engine"
        engine.write_bytes(b"engine")
        write_record(
            engine, "tensorrt", Platform(runtime="tensorrt", version="10", capability="sm89", gpu=gpu), profile
        )
        return EngineVariant.load(tmp_path / "fp16.onnx", "tensorrt", (2, 8)).engine.profile

    return load_from


NEW = BatchProfile(min=1, opt=1, max=1)
WIDE, NARROW = BatchProfile(min=1, opt=8, max=32), BatchProfile(min=4, opt=8, max=32)


@pytest.mark.parametrize(
    ("profile", "gpu", "taken"),
    [(WIDE, "NVIDIA Test", True), (NARROW, "NVIDIA Test", False), (WIDE, "NVIDIA Other", False)],
)
def test_a_shipped_engine_is_taken_where_it_fits(
    profile: BatchProfile, gpu: str, taken: bool, shipped: Callable[..., BatchProfile]
) -> None:
    assert shipped(profile, gpu) == (profile if taken else NEW)


# --- the course --------------------------------------------------------------------------------------------


def stand_in(export: Path, encoder: str = "text", precision: str = "fp8") -> Engine:
    """What computes an exported file as an engine would, and reports its products as TensorRT 11 does."""
    loaded = load(export / encoder / f"{precision}.onnx", "cpu", fused=False)
    inputs = {port.name: (getattr(torch, port.dtype), port.shape) for port in loaded.graph.inputs}
    (output,) = loaded.graph.outputs
    modules = list(dict.fromkeys(module_of(node) for node in loaded.graph.nodes if node.op_type == "MatMul"))
    kind = {"Datatype": "FP8" if precision == "fp8" else "Half"}
    layers = [
        {
            "Name": f"{module}_myl0",
            "LayerType": "gemm",
            "Inputs": [kind],
            "Metadata": f"[ONNX Layer: {module}/MatMul]",
        }
        for module in modules
    ]
    times = {str(layer["Name"]): 0.5 for layer in layers}
    report = json.dumps({"Layers": layers})
    shape = (output.name, getattr(torch, output.dtype), output.shape)
    return Engine(lambda *x: loaded.module(*x), inputs, shape, report, times)


@pytest.fixture
def texts(export: Path, tmp_path: Path) -> Path:
    """The text encoder alone: it is quick on a CPU."""
    (tmp_path / "text").symlink_to(export / "text")
    return tmp_path


@pytest.fixture
def engines(device: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Engine]:
    """Engines by encoder and precision as they are "built"; streams are a number."""
    del device
    made: dict[str, Engine] = {}

    def build(path: Path, _: str, profile: BatchProfile) -> DeviceEngine:
        engine = stand_in(path.parents[1], path.parent.name, path.stem)
        made[f"{path.parent.name} {path.stem}"] = engine
        return DeviceEngine(RUNTIME, engine, engine.create_execution_context, lambda: None, profile)

    monkeypatch.setattr(variant, "_CHECKED", 4)
    monkeypatch.setattr(engine_target, "why_not", lambda *_: None)
    monkeypatch.setattr(engine_target, "_built", build)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(engine_target, "capture_if_possible", lambda call, sets: (gpu_timing.plain(call, sets), "why"))
    return made


def test_the_whole_course_of_engines(texts: Path, engines: dict[str, Engine]) -> None:
    report = run.bench(texts, BenchSettings((2, 3), (), ("tensorrt",), FAST), "a command")
    rows = {(r.encoder, r.precision, r.batch): r for r in report.rows}
    assert len(rows) == 4 and {r.status for r in report.rows} == {"measured"}
    fp8 = rows["text", "fp8", 3]
    assert fp8.cosine == pytest.approx(1.0, abs=1e-5), "4 samples through an engine for 2 to 3"
    assert (fp8.speedup, fp8.fp8_gemm_share, fp8.fp8_verdict) == (2.0, 1.0, "passed")
    assert fp8.note == "without a CUDA graph, each run enqueued from Python: why"
    assert rows["text", "fp16", 3].fp8_gemm_share == 0.0
    assert rows["text", "fp16", 3].fp8_verdict is None
    build, timed = (shlex.split(line) for line in (fp8.build_command or "", fp8.run_command or ""))
    assert build[0] == timed[0] == "trtexec"
    assert {"--onnx=text/fp8.onnx", "--saveEngine=text/fp8.tensorrt.engine"} <= set(build)
    assert {"--minShapes=input_ids:2x77", "--optShapes=input_ids:3x77", "--maxShapes=input_ids:3x77"} <= set(build)
    assert {"--loadEngine=text/fp8.tensorrt.engine", "--shapes=input_ids:3x77"} <= set(timed)
    assert "By hand" in markdown(report) and "from the engine inspector" in markdown(report)
    assert set(engines["text fp8"].streams) == {7}


def test_an_engine_whose_products_nobody_sees_is_not_passed(
    texts: Path, engines: dict[str, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = engine_target._built

    def silent(path: Path, target: str, profile: BatchProfile) -> DeviceEngine:
        made = build(path, target, profile)
        engines[f"{path.parent.name} {path.stem}"].report = "{}"
        return made

    monkeypatch.setattr(engine_target, "_built", silent)
    report = run.bench(texts, BenchSettings((2,), (), ("trtrtx",), FAST))
    assert {r.fp8_verdict for r in report.rows if r.precision == "fp8"} == {"unverifiable"}
    assert "tensorrt_rtx" in (report.rows[0].run_command or "")
    assert "not verified: the inspector's report has no layers" in markdown(report)


def test_one_target_that_cannot_run_is_no_error_of_the_others(
    texts: Path, engines: dict[str, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_target, "why_not", lambda target, _: "no such GPU" if target == "trtrtx" else None)
    report = run.bench(texts, BenchSettings((2,), (), ("trtrtx", "tensorrt"), FAST))
    assert {(r.target, r.status) for r in report.rows} == {("trtrtx", "not run"), ("tensorrt", "measured")}
    assert {r.note for r in report.rows if r.target == "trtrtx"} == {"no such GPU"}
    assert len(engines) == 2


def test_an_engine_without_memory_for_one_batch_is_no_error_of_the_rest(
    texts: Path, engines: dict[str, Engine]
) -> None:
    """Contexts are made when a batch is prepared."""
    made: list[Any] = []

    def context(self: Engine) -> Any:
        made.append(self)
        return None if self is engines.get("text fp8") and made.count(self) > FITTING else runtime.Context(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Engine, "create_execution_context", context)
        report = run.bench(texts, BenchSettings((3, 2), (), ("tensorrt",), FAST))
    rows = {(r.precision, r.batch): (r.status, r.note or "") for r in report.rows}
    assert {key: status for key, (status, _) in rows.items()} == {
        ("fp16", 3): "measured",
        ("fp8", 3): "measured",
        ("fp16", 2): "measured",
        ("fp8", 2): "not run",
    }
    assert "no execution context" in rows["fp8", 2][1]


def test_a_profiler_that_fails_costs_only_the_proof(
    texts: Path, engines: dict[str, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no profiler here")

    monkeypatch.setattr(DeviceEngine, "layer_times", fail)
    report = run.bench(texts, BenchSettings((2,), (), ("tensorrt",), FAST))
    assert {(r.status, r.fp8_verdict) for r in report.rows} == {("measured", None), ("measured", "unverifiable")}
    assert all("no profiler here" in (item.evidence.doubt or "") for item in report.evidence)
    assert len(engines) == 2


def test_a_small_batch_is_filled_and_a_large_one_split(export: Path, engines: dict[str, Engine]) -> None:
    path = export / "text" / "fp16.onnx"
    opened = EngineVariant.load(path, "tensorrt", (2, 4))
    graph = OnnxGraph.load(path)
    for batch in (1, 2, 9):
        inputs = [torch.from_numpy(v) for v in random_inputs(graph, batch, seed=batch).values()]
        with torch.no_grad():
            wanted = load(path, "cpu", fused=False).module(*inputs)
            got = opened(*inputs)
        assert got.shape == wanted.shape
        assert torch.cosine_similarity(got.double(), wanted.double()).min() > 0.9999
    shapes = [next(iter(context.shapes.values()))[0] for context in engines["text fp16"].contexts]
    assert shapes == [2, 2, 4, 4, 2]


# --- CUDA graphs or not ------------------------------------------------------------------------------------


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("error", [RuntimeError("operation not permitted\n when capturing"), EngineFailed("refuses")])
def test_what_cannot_be_captured_is_called_each_time(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(gpu_timing, "capture", fail)
    timed, reason = capture_if_possible(lambda x: x * 2, [(1,), (5,)])
    assert [timed(index) for index in range(3)] == [2, 10, 2]
    assert reason in ("operation not permitted when capturing", "refuses")


@pytest.mark.usefixtures("no_cuda")
def test_what_can_be_captured_disturbs_no_other_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(gpu_timing, "capture", lambda *given: seen.append(given) or "a run")
    sets = [(1,)]
    assert capture_if_possible(abs, sets) == ("a run", None)
    assert seen == [(abs, sets, "thread_local")]
