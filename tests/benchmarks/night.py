"""A night of several variants against single runs, timed: `python -m tests.benchmarks.night --help`.

The variants are models of random weights, or the demo, each scaled by another factor, so that nothing of one is in the
cache for another. Some are made one after the other by `optimize` first, in a store of their own; then `nightly` makes
all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file, save_file

from tasks.demo import SNAPSHOT
from tasks.device.gpu_state import read_gpu_state
from tests.benchmarks.calibration import write_model
from tests.benchmarks.whole_runs import command

_LOOK_S = 0.25
"""NVML's utilization covers the last second or less."""


def write_variants(work: Path, model: str, count: int, targets: list[str]) -> tuple[Path, list[Path]]:
    """The folder of variants, and that of each one's model."""
    first = SNAPSHOT if model == "demo" else write_model(work, model)
    weights = load_file(first / "model.safetensors")
    folder, models = work / "variants", []
    folder.mkdir()
    for number in range(count):
        copy = work / f"variant-{number}"
        shutil.copytree(first, copy)
        scaled = {name: np.asarray(values * (1 + number / 1000)) for name, values in weights.items()}
        save_file(scaled, copy / "model.safetensors", {"format": "pt"})
        parameters = {"model": str(copy), "targets": targets, "calibration": {"source": "digits"}}
        text = yaml.safe_dump({"promote": None, "parameters": parameters})
        (folder / f"variant-{number}.yaml").write_text(text)
        models.append(copy)
    return folder, models


def main(
    model: Annotated[str, typer.Option(help="b32, l14, h14 or demo.")] = "b32",
    variants: Annotated[int, typer.Option(min=1, help="How many the night makes.")] = 8,
    at_once: Annotated[int, typer.Option(help="As `nightly` takes it.")] = 4,
    singles: Annotated[int, typer.Option(min=0, help="How many of them are made alone.")] = 2,
    targets: Annotated[str, typer.Option(help="Separated by commas; empty for none.")] = "torch-fp8",
    out: Annotated[Path | None, typer.Option(help="Write the results there as JSON.")] = None,
    logs: Annotated[Path | None, typer.Option(help="A folder for what the runs print.")] = None,
) -> None:
    """Make the variants, some of them alone and then all in one night, and print what each took."""
    console, work = Console(), Path(tempfile.mkdtemp(prefix="clipsmith-night-"))
    kept = logs or work
    kept.mkdir(parents=True, exist_ok=True)
    try:
        folder, models = write_variants(work, model, variants, [each for each in targets.split(",") if each])
        alone: list[dict[str, Any]] = []
        for number, one in enumerate(models[:singles]):
            arguments = ["optimize", str(one), "--calibration", "digits", "--targets", targets]
            arguments += ["--store", str(work / "alone")]
            alone.append(_timed(arguments, kept / f"alone-{number}.log"))
        os.environ["CLIPSMITH_VARIANTS"] = str(folder)
        night = _timed(["nightly", "--at-once", str(at_once), "--store", str(work / "night")], kept / "night.log")
        _print(console, alone, night, variants, at_once)
        if out is not None:
            out.write_text(json.dumps({"alone": alone, "night": night}, indent=1))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    raise typer.Exit(max(one["code"] for one in [*alone, night]))


def _print(console: Console, alone: list[dict[str, Any]], night: dict[str, Any], variants: int, at_once: int) -> None:
    """The table: what ran, its seconds, how busy the GPU was (`-` where none can be asked), and its exit code."""
    table = Table("run", "seconds", "GPU busy", "exit code", box=None)
    for number, one in enumerate(alone):
        table.add_row(f"variant-{number} alone", f"{one['seconds']:.1f}", _busy(one), str(one["code"]))
    table.add_row(
        f"night of {variants}, {at_once} at once", f"{night['seconds']:.1f}", _busy(night), str(night["code"])
    )
    if alone:
        singly = variants * sum(one["seconds"] for one in alone) / len(alone)
        table.add_row(f"{variants} single runs, by the mean of {len(alone)}", f"{singly:.1f}", "", "")
        table.add_row("night / single runs", f"{night['seconds'] / singly:.2f}", "", "")
    console.print(table)


def _busy(timed: dict[str, Any]) -> str:
    return "-" if timed["gpu_busy"] is None else f"{timed['gpu_busy']:.0%}"


@contextmanager
def _gpu_watched() -> Iterator[list[int]]:
    """The GPU's utilization in percent, as it was looked at during the block."""
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while (state := read_gpu_state()) is not None and not over.wait(_LOOK_S):
            seen.append(state.utilization)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        over.set()
        watching.join()


def _timed(arguments: list[str], log: Path) -> dict[str, Any]:
    begun = time.monotonic()
    with _gpu_watched() as seen:
        done = command(arguments, log)
    seconds = time.monotonic() - begun
    Console(stderr=True).print(f"{log.stem}: {seconds:.1f} s, exit code {done.returncode}")
    return {
        "seconds": seconds,
        "code": done.returncode,
        "gpu_busy": sum(seen) / len(seen) / 100 if seen else None,
        "document": json.loads(done.stdout or "{}"),
    }


if __name__ == "__main__":
    typer.run(main)
