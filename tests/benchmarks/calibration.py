"""Calibration from files against calibration on ready-decoded tensors: `python -m tests.benchmarks.calibration`.

Both are `tasks.pipeline.calibration.calibrate` on the same photographs, in turn, in one process; the second is handed
the batches that `stream_batches` made before. Two throughputs, in images per second: of the whole step, which also
loads the model, and of the feeding alone, from the first batch handed to the model to the last amax read. The first is
flattered by what both have to do, the second by what is decoded while the model loads; the smaller ratio counts.
Peak memory is the step's own, in a fresh process for each number of samples. There glibc's mmap threshold is fixed:
left to itself it keeps freed activations in the heap, and the peak differs by 100 MiB between equal runs.

Exits with 1 when ViT-L/14 misses a target.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from unittest import mock

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from artifacts.store.store import Store, activate
from tasks.checkpoints.preprocess import Preprocess
from tasks.data.batches import Batch, stream_batches
from tasks.data.pinned import pin_data
from tasks.demo import SNAPSHOT
from tasks.families import family_named
from tasks.pipeline.calibration import Calibration, calibrate
from tasks.pipeline.checkpoint import check, resolve
from tasks.quantizing.modelopt import insert_quantizers
from tasks.quantizing.recipe import load_recipe
from tests.benchmarks.architectures import ARCHITECTURES
from tests.benchmarks.models import model_in

SEED = 20260
WIDTH, HEIGHT = 640, 480
MIN_THROUGHPUT = 0.9
"""Of the throughput on ready-decoded tensors: the target."""
MAX_GROWTH_MB = 16.0
"""What peak memory may grow by between the two numbers of samples: 28 pixel tensors of 224 x 224."""
QUIET = 0.2
"""Cores that may be busy with other work: a pair of runs with more is tried again, up to `_TRIES` times."""
_TRIES = 3
_MMAP_THRESHOLD = 1_000_000
"""Bytes from which glibc gives a freed block back at once (mallopt(3)); by default it moves, up to 32 MiB."""
_PICTURES = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "motorcycle_left")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Round:
    """Images per second of one calibration, and how many cores were busy with other work meanwhile."""

    step: float
    feeding: float
    elsewhere: float


@dataclass(frozen=True)
class Result:
    """One architecture: every pair of runs (from files, from tensors), and peak MiB by number of samples."""

    label: str
    device: str
    pairs: list[tuple[Round, Round]]
    peak_mb: dict[int, float]

    @property
    def counted(self) -> list[tuple[Round, Round]]:
        """The pairs that nothing disturbed, or all where there is none."""
        return [pair for pair in self.pairs if _quiet(pair)] or self.pairs

    def ratios(self, what: str) -> list[float]:
        """`step` or `feeding`: from files over from tensors, pair by pair."""
        return [getattr(files, what) / getattr(tensors, what) for files, tensors in self.counted]

    @property
    def ratio(self) -> float:
        """The smaller of the two medians."""
        return min(median(self.ratios("step")), median(self.ratios("feeding")))

    @property
    def growth_mb(self) -> float:
        """MiB that peak memory grows by with the number of samples."""
        few, many = sorted(self.peak_mb)
        return self.peak_mb[many] - self.peak_mb[few]

    @property
    def passed(self) -> bool:
        """Whether both targets were met."""
        return self.ratio >= MIN_THROUGHPUT and self.growth_mb <= MAX_GROWTH_MB


def _quiet(pair: tuple[Round, Round]) -> bool:
    return max(done.elsewhere for done in pair) <= QUIET


# --- what is calibrated ------------------------------------------------------------------------------------


def write_model(work: Path, name: str) -> Path:
    """A random CLIP with a processor: the demo's tokenizer, and the demo's picture processing at the model's size."""
    folder = model_in(work, name).folder
    for file in _TOKENIZER_FILES:
        shutil.copyfile(SNAPSHOT / file, folder / file)
    own, demo = (json.loads((place / "config.json").read_text()) for place in (folder, SNAPSHOT))
    own["text_config"] |= {token: demo["text_config"][token] for token in _TOKENS}  # those of the tokenizer
    (folder / "config.json").write_text(json.dumps(own))
    processor = json.loads((SNAPSHOT / "preprocessor_config.json").read_text())
    side = ARCHITECTURES[name].config()["vision_config"]["image_size"]
    processor |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def photographs() -> list[Image.Image]:
    """The photographs that come with scikit-learn and scikit-image."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    folder = Path(data.__file__).parent
    files = [next(folder.glob(f"{name}.*")) for name in _PICTURES]
    return [*map(Image.fromarray, load_sample_images().images), *(Image.open(file).convert("RGB") for file in files)]


def write_photographs(folder: Path, count: int) -> Path:
    """`count` JPEG files of 640 x 480 pixels with captions: random crops, every other one mirrored."""
    folder.mkdir()
    rng = np.random.default_rng(SEED)
    pictures = photographs()
    rows = ["file,caption"]
    for number in range(count):
        picture = pictures[number % len(pictures)]
        width = min(picture.width, picture.height * WIDTH // HEIGHT) * rng.uniform(0.5, 1)
        height = width * HEIGHT / WIDTH
        left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
        crop = picture.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        if number % 2:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop.save(folder / f"{number}.jpg", quality=90)
        rows.append(f"{number}.jpg,photograph number {number}")
    (folder / "captions.csv").write_text("\n".join(rows))
    return folder


# --- measurements ------------------------------------------------------------------------------------------


class Bench:
    """One model and a number of photographs, in a store of their own."""

    def __init__(self, model: Path, photos: Path, samples: int, batch: int) -> None:
        self._store = Store.open(model.parent / "store")
        self._batch = batch
        with activate(self._store):
            self._snapshot = resolve(str(model), None, self._store)
            self._preprocess = check(self._snapshot).preprocess
            self._data, self._dataset = pin_data(str(photos), "calibration", samples)

    def decode(self) -> list[Batch]:
        """All batches, decoded."""
        family = family_named(self._snapshot.family)
        processor = Preprocess(self._store.path(self._preprocess), family, self._snapshot.config)
        return list(stream_batches(self._dataset, processor, self._batch))

    def run(self, ready: list[Batch] | None = None) -> tuple[Round, Calibration]:
        """Calibrate the image encoder, on the files or on what is ready."""
        arguments = (self._snapshot, self._preprocess, self._data, load_recipe("fp8"))
        with activate(self._store), _timed_feeding() as feeding, _fed_with(ready):
            machine, own, start = _machine_cpu(), time.process_time(), time.perf_counter()
            done = calibrate(*arguments, "image", self._batch)
            wall = time.perf_counter() - start
            elsewhere = (_machine_cpu() - machine - time.process_time() + own) / wall
        return Round(done.samples / wall, done.samples / feeding[0], max(0.0, elsewhere)), done


def _machine_cpu() -> float:
    """Processor seconds that the machine has worked since it started: proc(5), all of /proc/stat's `cpu` but idling."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _fed_with(ready: list[Batch] | None) -> Iterator[None]:
    if ready is None:
        yield
    else:
        with mock.patch("tasks.quantizing.calibration_feed.stream_batches", lambda *_: (batch for batch in ready)):
            yield


@contextmanager
def _timed_feeding() -> Iterator[list[float]]:
    """The seconds that the function takes which ModelOpt calls to have data fed to the model."""
    seconds: list[float] = []

    def insert(model: Any, snapshot: Any, recipe: Any, encoders: Any, loop: Any) -> None:
        insert_quantizers(model, snapshot, recipe, encoders, _timed(loop, seconds))

    with mock.patch("tasks.pipeline.calibration.insert_quantizers", insert):
        yield seconds


def _timed(loop: Callable[[Any, Any], None], seconds: list[float]) -> Callable[[Any, Any], None]:
    def timed(model: Any, observers: Any) -> None:
        start = time.perf_counter()
        loop(model, observers)
        seconds.append(time.perf_counter() - start)

    return timed


def peak_mb(model: Path, photos: Path, samples: int, batch: int) -> float:
    """Peak resident memory of the step in a process of its own."""
    environment = mock.patch.dict(os.environ, MALLOC_MMAP_THRESHOLD_=str(_MMAP_THRESHOLD))
    with environment, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_mb, model, photos, samples, batch).result()


def _peak_mb(model: Path, photos: Path, samples: int, batch: int) -> float:
    _, done = Bench(model, photos, samples, batch).run()
    return done.stats.peak_rss_mb


def measure(name: str, model: Path, photos: Path, samples: int, batch: int, rounds: int, memory: list[int]) -> Result:
    """Memory first, then pairs of runs until `rounds` were undisturbed; which of a pair is first alternates."""
    peaks = {count: peak_mb(model, photos, count, batch) for count in memory}
    bench = Bench(model, photos, samples, batch)
    ready = bench.decode()
    _, first = bench.run(ready[:1])  # libraries load and threads start
    pairs: list[tuple[Round, Round]] = []
    while sum(map(_quiet, pairs)) < rounds and len(pairs) < _TRIES * rounds:
        order = (None, ready) if len(pairs) % 2 else (ready, None)
        done = {fed is None: bench.run(fed)[0] for fed in order}
        pairs.append((done[True], done[False]))
        print(name, *pairs[-1], file=sys.stderr, flush=True)
    return Result(ARCHITECTURES[name].label, first.device, pairs, peaks)


# --- report ------------------------------------------------------------------------------------------------


def _table(results: list[Result], samples: int, batch: int) -> Table:
    table = Table(title=f"Calibration of the image encoder, {samples} photographs in batches of {batch}")
    for column in ("", "device", "files [1/s]", "tensors [1/s]", "ratio, step", "ratio, feeding"):
        table.add_column(column)
    table.add_column("photographs: peak [MiB]")
    table.add_column("other work")
    for result in results:
        table.add_row(
            result.label,
            result.device,
            *(f"{median(done.step for done in runs):.2f}" for runs in zip(*result.counted, strict=True)),
            *(_spread(result.ratios(what)) for what in ("step", "feeding")),
            ", ".join(f"{count}: {peak:,.0f}" for count, peak in result.peak_mb.items()),
            f"{max(done.elsewhere for pair in result.counted for done in pair):.2f}",
        )
    return table


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def _document(result: Result) -> dict[str, Any]:
    return asdict(result) | {"ratio": result.ratio, "growth_mb": result.growth_mb, "passed": result.passed}


def main(
    architectures: Annotated[str, typer.Option(help="Which models, by commas.")] = "b32,l14",
    samples: Annotated[int, typer.Option(help="Photographs per run.")] = 64,
    batch: Annotated[int, typer.Option(help="Batch size.")] = 16,
    rounds: Annotated[int, typer.Option(help="Undisturbed pairs of runs.")] = 3,
    memory: Annotated[str, typer.Option(help="The two numbers of photographs that memory is compared at.")] = "64,256",
) -> None:
    """Compare calibration from files with calibration on ready-decoded tensors; JSON on stdout."""
    counts = [int(count) for count in memory.split(",")]
    results = {}
    with tempfile.TemporaryDirectory(prefix="clipsmith-bench-") as name:
        work = Path(name)
        photos = write_photographs(work / "photos", max(samples, *counts))
        for architecture in architectures.split(","):
            model = write_model(work, architecture)
            results[architecture] = measure(architecture, model, photos, samples, batch, rounds, counts)
    Console(stderr=True).print(_table(list(results.values()), samples, batch))
    found = {name: _document(result) for name, result in results.items()}
    print(json.dumps({"cores": os.cpu_count(), "samples": samples, "batch": batch, "results": found}, indent=2))
    if "l14" in results and not results["l14"].passed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
