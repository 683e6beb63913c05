"""What a search's sensitivities cost: `python -m tests.benchmarks.search [SAMPLES]`.

Every module of a ViT-B/32 of random weights on 64 pictures and 64 texts, with two threads.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tasks.clip.base import ENCODERS
from tasks.clip.weights import WeightReader
from tasks.families import family_named
from tasks.graph.replicate import trace_by_block
from tasks.quantizing.recipe import load_recipe
from tasks.search.evaluation import EncoderGraph
from tasks.search.journal import Journal
from tasks.search.run import Batches, measure_all
from tasks.torch_fp8.onnx_graph import OnnxGraph
from tests.benchmarks.architectures import ARCHITECTURES
from tests.benchmarks.models import model_in

BATCH = 32


def time_sensitivity(samples: int, threads: int) -> None:
    """Prints seconds of the wall clock and of all cores, and the machine's load."""
    torch.set_num_threads(threads)
    family, config, recipe = family_named("clip"), ARCHITECTURES["b32"].config(), load_recipe("fp8-compact")
    with tempfile.TemporaryDirectory(prefix="clipsmith-bench-") as name:
        work = Path(name)
        model = model_in(work, "b32")
        amax: dict[str, float] = json.loads(model.amax.read_text())
        reader = WeightReader([model.folder / "model.safetensors"])
        for encoder in ENCODERS:
            graph = EncoderGraph(trace_by_block(family, config, encoder), reader, amax)
            ports = OnnxGraph(graph.skeleton.model)

            def batches(_: Any, ports: OnnxGraph = ports) -> Batches:
                sizes = [min(BATCH, samples - start) for start in range(0, samples, BATCH)]
                feeds = [_inputs(ports, size, seed) for seed, size in enumerate(sizes)]
                return [list(feed) for feed in feeds]

            start, cpu = time.perf_counter(), time.process_time()
            measured = measure_all({encoder: graph}, recipe, batches, Journal(work / f"{encoder}.jsonl", encoder))
            wall, used = time.perf_counter() - start, time.process_time() - cpu
            print(
                f"{encoder}: {len(measured.units)} modules on {samples} samples, {threads} threads: {wall:.0f} s "
                f"({used:.0f} s of cores), load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


def _inputs(ports: OnnxGraph, batch: int, seed: int) -> list[torch.Tensor]:
    if ports.inputs[0].name == "pixel_values":
        return [torch.randn(batch, *ports.inputs[0].shape, generator=torch.Generator().manual_seed(seed))]
    shape = (batch, *ports.inputs[0].shape)
    return [torch.randint(1, 49_407, shape, generator=torch.Generator().manual_seed(seed))]


if __name__ == "__main__":
    time_sensitivity(int(sys.argv[1]) if len(sys.argv) > 1 else 64, threads=2)
