"""Packages on a real GPU: built by a builder's process, loaded in a fresh one, held against the graph node by node."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.bench.machine import why_no_gpu
from tasks.torch_fp8.onnx_graph import OnnxGraph, random_inputs
from tasks.torch_fp8.torch_graph import load

ROOT = Path(__file__).parents[2]
BATCHES = (2, 5, 32)
TARGET = "torch-fp8"
LEAST = {"fp16": 0.9999, "fp8": 0.99}
PACKAGES = {"fp16": "fp16", "fp8": "fp8", "fp8 without our kernels": "fp8"}
"""What is built, and of which graph."""
LIMIT_S = 5 * 60

# Through the backend: what `clipsmith optimize` builds, and the runner that its measurements use.
BUILD = """
import sys
from pathlib import Path
from tasks.engines import BatchProfile, backend_for
from tasks.engines.child import Job, build_in_child
from tasks.engines.record import write_record

profile, backend = BatchProfile(min=2, opt=8, max=32), backend_for({target!r})
onnx, engine = map(Path, sys.argv[1:])
stats, log = build_in_child(Job(onnx=onnx, engine=engine, target={target!r}, profile=profile))
write_record(engine, {target!r}, backend.platform({target!r}), profile)
print(f"{{engine.name}}: {{stats.wall_s:.1f}} s, {{stats.peak_rss_mb:.0f}} MB")
"""
# As on a GPU before Hopper: PyTorch's own operators alone.
BUILD_PLAIN = """
import os, sys
from pathlib import Path
from tasks.torch_fp8 import aot
from tasks.torch_fp8.cuda_toolkit import cuda_environment
from tasks.engines import BatchProfile, backend_for
from tasks.engines.record import write_record

os.environ |= cuda_environment()
aot.own_kernels = lambda _: False
onnx, engine = map(Path, sys.argv[1:])
aot.build_package(onnx, engine, (2, 8, 32))
write_record(engine, {target!r}, backend_for({target!r}).platform({target!r}), BatchProfile(min=2, opt=8, max=32))
"""
RUN = """
import sys
from pathlib import Path
import numpy as np
from tasks.engines import backend_for

engine, inputs, outputs = map(Path, sys.argv[1:])
feeds = np.load(inputs)
with backend_for({target!r}).runner(engine, "package") as runner:
    (name,) = runner.forms
    made = {{batch: next(iter(runner.infer({{name: feeds[batch]}}).values())) for batch in feeds.files}}
    print(f"{{engine.name}}: {{runner.last_inference_time() * 1e3:.3f}} ms, the largest batch")
np.savez(outputs, **made)
"""


def fresh_process(code: str, *arguments: Path) -> None:
    """Run Python in a process of its own; it fails as that does, with its words."""
    python("-c", code.format(target=TARGET), *map(str, arguments))


def python(*arguments: str) -> str:
    """What it printed."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image encoder of a small export in both precisions."""
    reason = why_no_gpu()
    if reason is not None:
        pytest.skip(reason)
    pytest.importorskip("pydantic", reason="an engine's record needs pydantic")
    pytest.importorskip("transformers", reason="a small encoder is traced from transformers' model")
    from tasks.engines import backend_for
    from tests.benchmarks.architectures import Architecture, Tower
    from tests.gpu.exports import make_export

    reason = backend_for(TARGET).why_not_build(TARGET)
    if reason is not None:
        pytest.skip(reason)
    made = tmp_path_factory.mktemp("packages")
    small = Architecture("small", Tower(2, 128, 2, 256), Tower(2, 128, 2, 256), 56, 64, "quick_gelu")
    return make_export(made, small, made / "skeletons", "cuda", ("image",))


@pytest.fixture(scope="module")
def packages(folder: Path) -> dict[str, Future[Path]]:
    """Each built and then run, side by side: what became of it, which is its file or what went wrong."""
    with ThreadPoolExecutor() as pool:
        return {name: pool.submit(build_and_run, folder, name) for name in PACKAGES}


def build_and_run(folder: Path, name: str) -> Path:
    """A package; beside it lie `.in.npz` and `.out.npz`: its inputs and outputs by batch size."""
    onnx = folder / "image" / f"{PACKAGES[name]}.onnx"
    engine = folder / f"{name}.{TARGET}.engine"
    graph = OnnxGraph.load(onnx)
    feeds = {str(batch): random_inputs(graph, batch, seed=batch)["pixel_values"] for batch in BATCHES}
    np.savez(engine.with_suffix(".in.npz"), **feeds)
    fresh_process(BUILD if name == PACKAGES[name] else BUILD_PLAIN, onnx, engine)
    fresh_process(RUN, engine, engine.with_suffix(".in.npz"), engine.with_suffix(".out.npz"))
    return engine


@pytest.mark.parametrize("name", PACKAGES)
def test_a_fresh_process_computes_what_the_graph_says(
    name: str, folder: Path, packages: dict[str, Future[Path]]
) -> None:
    engine = packages[name].result()
    plain = load(folder / "image" / f"{PACKAGES[name]}.onnx", "cuda", fused=False).module
    feeds, got = (np.load(engine.with_suffix(f".{way}.npz")) for way in ("in", "out"))
    assert got.files == [str(batch) for batch in BATCHES]
    for batch in got.files:
        with torch.no_grad():
            wanted = plain(torch.from_numpy(feeds[batch]).cuda()).double().cpu()
        own = torch.cosine_similarity(torch.from_numpy(got[batch]).double(), wanted)
        assert own.min() > LEAST[PACKAGES[name]]


def test_the_record_names_this_machine(packages: dict[str, Future[Path]]) -> None:
    from artifacts.errors import EngineMismatch
    from tasks.engines.record import read_engine, read_record

    engine = packages["fp8"].result()
    platform = read_record(engine).platform
    assert platform.capability == "sm{}{}".format(*torch.cuda.get_device_capability())
    assert platform.version == f"{torch.__version__}, CUDA {torch.version.cuda}"
    with pytest.raises(EngineMismatch):
        read_engine(engine, platform.model_copy(update={"capability": "sm80"}))


def test_the_command_by_hand_times_it(packages: dict[str, Future[Path]]) -> None:
    out = python("-m", "tasks.torch_fp8.aot", "time", str(packages["fp8"].result()), "--batch", "32")
    assert "ms, median of 100 batches of 32" in out
