"""What an evaluation set costs in memory as it grows: `python -m tests.benchmarks.evaluation`.

5,000 and 50,000 pictures in shards as CLIP_benchmark has them, through the demo model in FP32, each in a fresh process:
pinning and `tasks.pipeline.embedding.embed`. Pixels must not pile up; what grows is the list of the samples.
Peak memory is the kernel's, with glibc's mmap threshold fixed as in `calibration.py`.

Exits with 1 when embedding takes more memory per sample than the target.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from artifacts.store.store import Store, activate
from tasks.data.pinned import pin_data
from tasks.pipeline.checkpoint import check, resolve
from tasks.pipeline.embedding import embed
from tasks.runs.step_cost import peak_rss_mb
from tasks.runs.steps import measured
from tests.tasks.data.support import Member, labelled, noise, zero_shot

MAX_BYTES_PER_SAMPLE = 1500
"""What peak memory may grow by: a sample's id, hash and place; 823 were measured."""
_MMAP_THRESHOLD = 1_000_000
_SIDE = 32
_SHARD = 10_000


@dataclass(frozen=True)
class Result:
    """Peak MiB and seconds: of pinning, and of embedding."""

    samples: int
    pin_mb: float
    pin_s: float
    embed_mb: float
    embed_s: float


def make(root: Path, count: int) -> Path:
    """`count` pictures of noise in ten classes."""

    def shard(start: int) -> Iterator[Member]:
        for number in range(start, min(start + _SHARD, count)):
            yield from labelled([noise(number, _SIDE)], [number % 10], number)

    names = "".join(f"class {number}\n" for number in range(10))
    return zero_shot(root, [shard(start) for start in range(0, count, _SHARD)], names)


def measure(folder: str, store_folder: str) -> Result:
    """In a process of its own."""
    store = Store.open(store_folder)
    with activate(store):
        snapshot = resolve("demo", None, store)
        preprocess = check(snapshot).preprocess
        with measured() as pinning:
            data, _ = pin_data(folder, "evaluation", None)
            del _
        pin_mb, start = peak_rss_mb(), time.perf_counter()
        made = embed(snapshot, preprocess, data, "image", "fp32", "pytorch", None, 32)
        seconds = time.perf_counter() - start
    assert made.rows == data.samples
    return Result(data.samples, pin_mb, pinning.stats.wall_s, made.stats.peak_rss_mb, seconds)


def main(sizes: Annotated[list[int] | None, typer.Argument()] = None) -> None:
    """Measure both sizes and print a table."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(_MMAP_THRESHOLD)  # mallopt(3); read when a process starts
    results = []
    with tempfile.TemporaryDirectory() as place:
        for count in sizes or (5_000, 50_000):
            folder = make(Path(place) / str(count), count)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                results.append(pool.submit(measure, str(folder), f"{place}/store-{count}").result())
    table = Table("samples", "pinning, peak MiB", "s", "embedding, peak MiB", "s", "samples/s")
    for r in results:
        cells = (f"{r.samples:,}", f"{r.pin_mb:.0f}", f"{r.pin_s:.1f}", f"{r.embed_mb:.0f}", f"{r.embed_s:.1f}")
        table.add_row(*cells, f"{r.samples / r.embed_s:.0f}")
    Console().print(table)
    growth = (results[-1].embed_mb - results[0].embed_mb) * 2**20 / max(1, results[-1].samples - results[0].samples)
    Console().print(f"{growth:.0f} bytes per sample, at most {MAX_BYTES_PER_SAMPLE} asked for")
    sys.exit(growth > MAX_BYTES_PER_SAMPLE)


if __name__ == "__main__":
    typer.run(main)
