"""Whole `clipsmith optimize` runs on JPEG photographs, timed: `python -m tests.benchmarks.whole_runs --help`.

A model of random weights is calibrated and evaluated on photographs that are made here: crops of those that come with
scikit-learn and scikit-image, 640 x 480 and other sizes, with captions (calibration) and one of 100 classes each
(evaluation). The second run is the same command again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from artifacts.number_words import quantity
from tests.benchmarks.calibration import SEED, photographs, write_model

_SIZES = ((640, 480), (500, 375), (375, 500), (1024, 768), (320, 240))
_CLASSES = [f"kind {number}" for number in range(100)]
_SHARE = 512
"""Pictures that one process makes at a time."""
_COMMAND = "from deployments.cli import main; main()"


def write_pictures(folder: Path, count: int, kind: str) -> Path:
    """`count` JPEG files of various sizes below `folder`, and a table of their captions or, if `kind` is "label",
    classes."""
    folder.mkdir(parents=True)
    shares = [(folder, len(kind), start, min(count, start + _SHARE)) for start in range(0, count, _SHARE)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        list(pool.map(_write_share, *zip(*shares, strict=True)))
    # A seed for each kind: no picture is in two sets.
    rows = [f"file,{kind}"]
    for number in range(count):
        said = _CLASSES[number % len(_CLASSES)] if kind == "label" else f"photograph number {number}"
        rows.append(f"{number}.jpg,{said}")
    (folder / f"{kind}s.csv").write_text("\n".join(rows) + "\n")
    return folder


def _write_share(folder: Path, seed: int, start: int, stop: int) -> None:
    pictures = photographs()
    for number in range(start, stop):
        rng = np.random.default_rng((SEED, seed, number))
        picture, (width, height) = pictures[number % len(pictures)], _SIZES[number % len(_SIZES)]
        wide = min(picture.width, picture.height * width / height) * rng.uniform(0.5, 1)
        high = wide * height / width
        left, top = rng.uniform(0, picture.width - wide), rng.uniform(0, picture.height - high)
        box = (left, top, left + wide, top + high)
        crop = picture.resize((width, height), Image.Resampling.BILINEAR, box)
        crop.save(folder / f"{number}.jpg", quality=90)


def command(arguments: list[str], log: Path) -> subprocess.CompletedProcess[str]:
    """Run `clipsmith` with these arguments and `--json`; standard error goes to `log`."""
    with log.open("w") as errors:
        return subprocess.run(
            [sys.executable, "-c", _COMMAND, *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
        )


def run(arguments: list[str], log: Path) -> dict[str, Any]:
    """One `optimize`: its seconds, exit code, and stages; what it prints goes to `log`."""
    begun = time.monotonic()
    done = command(arguments, log)
    document = json.loads(done.stdout) if done.stdout else {}
    return {
        "seconds": time.monotonic() - begun,
        "code": done.returncode,
        "ref": document.get("ref"),
        "tables": {name: document.get("tables", {}).get(name, []) for name in ("stages", "executors", "accuracy")},
        "error": "" if done.returncode == 0 else log.read_text()[-3000:],
    }


def main(
    model: Annotated[str, typer.Option(help="b32, l14, h14 or demo.")] = "l14",
    calibration: Annotated[int, typer.Option(help="Photographs with captions; 0: the default of `optimize`.")] = 0,
    evaluation: Annotated[int, typer.Option(help="Photographs with classes; 0: the default of `optimize`.")] = 0,
    targets: Annotated[str, typer.Option(help="As `optimize` takes them.")] = "onnxruntime",
    out: Annotated[Path | None, typer.Option(help="Write the results there as JSON.")] = None,
    work: Annotated[Path | None, typer.Option(help="A folder to keep, for another run of this.")] = None,
) -> None:
    """Make model and photographs, run `optimize` twice, and print how long each took, and its stages."""
    console, folder = Console(), work or Path(tempfile.mkdtemp(prefix="clipsmith-whole-"))
    try:
        folder.mkdir(exist_ok=True)
        arguments = ["optimize", model if model == "demo" else str(_model(folder, model))]
        for option, count, kind in (("calibration", calibration, "caption"), ("evaluation", evaluation, "label")):
            if count:
                place = folder / f"{option}-{count}"
                if not place.exists():
                    write_pictures(place, count, kind)
                arguments += [f"--{option}", str(place), f"--{option}-samples", str(count)]
        arguments += ["--targets", targets, "--store", str(folder / f"store-{model}-{calibration}-{evaluation}")]
        runs = [run(arguments, folder / f"{name}.log") for name in ("first", "second")]
        _print(console, runs)
        if out is not None:
            out.write_text(json.dumps({"command": arguments, "runs": runs}, indent=1))
    finally:
        if work is None:
            shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(max(one["code"] for one in runs))


def _model(folder: Path, name: str) -> Path:
    return folder / name if (folder / name / "preprocessor_config.json").exists() else write_model(folder, name)


def _print(console: Console, runs: list[dict[str, Any]]) -> None:
    table = Table("step", "of", "seconds", "device", "samples/s", "waiting", box=None)
    for row in runs[0]["tables"]["stages"]:
        speed = [quantity(row[name], unit) for name, unit in (("samples_per_s", "1/s"), ("waited", "fraction"))]
        table.add_row(row["step"], _of(row), f"{row['wall_s']:.1f}", row["device"], *speed)
    console.print(table)
    for one in runs:
        console.print(f"{one['ref']}: {one['seconds']:.1f} s, exit code {one['code']}\n{one['error']}", markup=False)


def _of(row: dict[str, Any]) -> str:
    return " ".join(str(row[name]) for name in ("encoder", "precision", "target") if row.get(name))


if __name__ == "__main__":
    typer.run(main)
