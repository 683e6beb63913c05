"""Packages on a real GPU: built by a builder's process, loaded in a fresh one, held against the graph node by node."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.bench.machine import why_no_gpu
from tasks.bench.onnx_graph import OnnxGraph, random_inputs
from tasks.bench.torch_graph import load

ROOT = Path(__file__).parents[2]
BATCHES = (2, 5, 32)
TARGET = "torch-fp8"
LEAST = {"fp16": 0.9999, "fp8": 0.99}
MINUTES = 5 * 60

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
    command = [sys.executable, "-c", code.format(target=TARGET), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=MINUTES, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image encoder of a small export in both precisions, each built and then run, side by side.

    Beside each package lie `<precision>.in.npz` and `.out.npz`: its inputs and outputs by batch size.
    """
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
    folder = tmp_path_factory.mktemp("packages")
    small = Architecture("small", Tower(2, 128, 2, 256), Tower(2, 128, 2, 256), 56, 64, "quick_gelu")
    make_export(folder, small, folder / "skeletons", "cuda", ("image",))
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda precision: build_and_run(folder, precision), LEAST))
    return folder


def build_and_run(folder: Path, precision: str) -> None:
    onnx, engine = folder / "image" / f"{precision}.onnx", folder / f"{precision}.{TARGET}.engine"
    graph = OnnxGraph.load(onnx)
    feeds = {str(batch): random_inputs(graph, batch, seed=batch)["pixel_values"] for batch in BATCHES}
    np.savez(folder / f"{precision}.in.npz", **feeds)
    fresh_process(BUILD, onnx, engine)
    fresh_process(RUN, engine, folder / f"{precision}.in.npz", folder / f"{precision}.out.npz")


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_a_fresh_process_computes_what_the_graph_says(packages: Path, precision: str) -> None:
    plain = load(packages / "image" / f"{precision}.onnx", "cuda", fused=False).module
    feeds, got = (np.load(packages / f"{precision}.{way}.npz") for way in ("in", "out"))
    assert got.files == [str(batch) for batch in BATCHES]
    for name in got.files:
        with torch.no_grad():
            wanted = plain(torch.from_numpy(feeds[name]).cuda()).double().cpu()
        assert torch.cosine_similarity(torch.from_numpy(got[name]).double(), wanted).min() > LEAST[precision]


def test_the_record_names_this_machine(packages: Path) -> None:
    from artifacts.errors import EngineMismatch
    from tasks.engines.record import read_engine, read_record

    engine = packages / f"fp8.{TARGET}.engine"
    platform = read_record(engine).platform
    assert platform.capability == "sm{}{}".format(*torch.cuda.get_device_capability())
    assert platform.version == f"{torch.__version__}, CUDA {torch.version.cuda}"
    with pytest.raises(EngineMismatch):
        read_engine(engine, platform.model_copy(update={"capability": "sm80"}))
