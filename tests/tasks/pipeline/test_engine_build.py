"""The build step: an engine object per target, and typed errors for what cannot be built here."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from artifacts.errors import BuilderCrash, BuildError, EngineUnavailable, UnknownTarget
from artifacts.refs import ArtifactRef
from artifacts.store.store import Store
from tasks.demo import SNAPSHOT
from tasks.engines import BatchProfile, backend_for
from tasks.engines import tensorrt as backend_module
from tasks.engines.available import require_target
from tasks.pipeline import engine_build
from tasks.pipeline.engine_build import build, builds_at_once
from tests.wording import refusal

PROFILE = BatchProfile(min=1, opt=2, max=4)


def stored(store: Store, content: bytes, name: str = "fp8.onnx") -> ArtifactRef:
    with store.staging() as folder:
        (folder / name).write_bytes(content)
        return store.add("onnx", folder)


def test_onnx_runtime(store: Store, demo_graph: Any, random_inputs: Any, run_onnx: Any) -> None:
    built = build(stored(store, demo_graph("text", "fp8").read_bytes()), "text", "fp8", "onnxruntime", PROFILE)
    assert [file.path for file in built.engine.files] == ["fp8.onnxruntime.engine", "fp8.onnxruntime.engine.json"]
    assert (built.encoder, built.precision, built.target) == ("text", "fp8", "onnxruntime")
    assert [entry.path for entry in built.log.files] == ["build.log"]
    ids = random_inputs(SNAPSHOT, "text", 3)
    with backend_for("onnxruntime").runner(store.path(built.engine, "fp8.onnxruntime.engine"), "engine") as runner:
        got = np.array(runner.infer({"input_ids": ids})["text_embeds"])
    assert np.array_equal(got, run_onnx(demo_graph("text", "fp8"), ids))


def test_tensorrt_rtx(store: Store, demo_graph: Any) -> None:
    pytest.importorskip("tensorrt_rtx")
    built = build(stored(store, demo_graph("text", "fp8").read_bytes()), "text", "fp8", "trtrtx-sm89", PROFILE)
    assert [file.path for file in built.engine.files] == ["fp8.trtrtx-sm89.engine", "fp8.trtrtx-sm89.engine.json"]
    assert "STRONGLY_TYPED" in store.path(built.log, "build.log").read_text()
    assert built.engine.size > 100_000 and built.stats.wall_s > 0


@pytest.mark.parametrize("target", ["", "trtrtx-sm42", "openvino"])
def test_unknown_target(target: str, store: Store) -> None:
    with pytest.raises(UnknownTarget):
        require_target(target)
    with pytest.raises(UnknownTarget):
        build(stored(store, b""), "text", "fp8", target, PROFILE)


def test_tensorrt_that_is_not_installed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module.importlib.util, "find_spec", lambda _: None)
    with refusal(EngineUnavailable):
        build(stored(store, b""), "text", "fp8", "tensorrt", PROFILE)


@pytest.mark.parametrize("target", ["tensorrt", "trtrtx"])
def test_a_target_that_needs_a_gpu(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(backend_module, "gpu_count", lambda: 0)
    with pytest.raises(EngineUnavailable, match="no CUDA GPU"):
        require_target(target)


def test_what_can_be_built_is_not_refused() -> None:
    require_target("onnxruntime")


def test_a_refused_graph_leaves_nothing(store: Store) -> None:
    ref = stored(store, b"not a model")
    before = objects(store)
    with refusal(BuildError, "onnxruntime, fp8.onnx"):
        build(ref, "text", "fp8", "onnxruntime", PROFILE)
    assert objects(store) == before


def test_a_crash_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = stored(store, b"a model")
    before = objects(store)

    def crash(job: Any) -> Any:
        job.engine.write_bytes(b"half an engine")
        raise BuilderCrash("died")

    monkeypatch.setattr(engine_build, "build_in_child", crash)
    with pytest.raises(BuilderCrash):
        build(ref, "text", "fp8", "onnxruntime", PROFILE)
    assert objects(store) == before


@pytest.mark.parametrize(
    ("cores", "free", "sizes", "builds"),
    [
        (8, 64 * 10**9, [250_000_000, 600_000_000], 8),
        (8, 10 * 10**9, [250_000_000, 600_000_000], 2),
        (8, 10**9, [600_000_000], 1),
        (1, 64 * 10**9, [1], 1),
        (4, 64 * 10**9, [], 4),
    ],
    ids=["by cores", "by memory", "too little memory", "one core", "nothing to build"],
)
def test_builds_at_once(cores: int, free: int, sizes: list[int], builds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest graph counts: 600 MB took a builder 3.6 GB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(engine_build, "_free_memory", lambda: free)
    assert builds_at_once(sizes) == builds


def test_free_memory_is_what_the_machine_says() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    unused = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert unused * 0.8 < engine_build._free_memory() <= total


def objects(store: Store) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())
