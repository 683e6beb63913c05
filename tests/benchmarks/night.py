"""A night of several variants against single runs, timed: `python -m tests.benchmarks.night --help`.

The variants are ViT-B/32 of random weights, each scaled by another factor, so that nothing of one is in the cache for
another. Some are made one after the other by `optimize` first, in a store of their own; then `nightly` makes all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from rich.console import Console
from safetensors.numpy import load_file, save_file

from tests.benchmarks.calibration import write_model
from tests.benchmarks.whole_runs import command


def write_variants(work: Path, count: int, targets: list[str]) -> tuple[Path, list[Path]]:
    """The folder of variants, and that of each one's model."""
    first = write_model(work, "b32")
    weights = load_file(first / "model.safetensors")
    folder, models = work / "variants", []
    folder.mkdir()
    for number in range(count):
        model = work / f"b32-{number}"
        shutil.copytree(first, model)
        scaled = {name: np.asarray(values * (1 + number / 1000)) for name, values in weights.items()}
        save_file(scaled, model / "model.safetensors", {"format": "pt"})
        parameters = {"model": str(model), "targets": targets}
        text = yaml.safe_dump({"promote": None, "parameters": parameters})
        (folder / f"b32-{number}.yaml").write_text(text)
        models.append(model)
    return folder, models


def main(
    variants: Annotated[int, typer.Option(help="How many.")] = 8,
    at_once: Annotated[int, typer.Option(help="As `nightly` takes it.")] = 4,
    singles: Annotated[int, typer.Option(help="How many of them are made alone.")] = 2,
    targets: Annotated[str, typer.Option(help="Separated by commas.")] = "torch-fp8",
    out: Annotated[Path | None, typer.Option(help="Write the results there as JSON.")] = None,
    logs: Annotated[Path | None, typer.Option(help="A folder for what the runs print.")] = None,
) -> None:
    """Make the variants, some of them alone and then all in one night, and print what each took."""
    console, work = Console(), Path(tempfile.mkdtemp(prefix="clipsmith-night-"))
    kept = logs or work
    try:
        folder, models = write_variants(work, variants, targets.split(","))
        alone: list[dict[str, Any]] = []
        for number, model in enumerate(models[:singles]):
            arguments = ["optimize", str(model), "--targets", targets, "--store", str(work / "alone")]
            alone.append(_timed(arguments, kept / f"alone-{number}.log"))
        os.environ["CLIPSMITH_VARIANTS"] = str(folder)
        night = _timed(["nightly", "--at-once", str(at_once), "--store", str(work / "night")], kept / "night.log")
        for number, one in enumerate(alone):
            console.print(f"b32-{number} alone: {one['seconds']:.1f} s, exit code {one['code']}")
        mean = sum(one["seconds"] for one in alone) / max(1, len(alone))
        console.print(
            f"{variants} variants, {at_once} at once: {night['seconds']:.1f} s, exit code {night['code']}; "
            f"{variants} times a single run: {variants * mean:.1f} s"
        )
        if out is not None:
            out.write_text(json.dumps({"alone": alone, "night": night}, indent=1))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    raise typer.Exit(max(one["code"] for one in [*alone, night]))


def _timed(arguments: list[str], log: Path) -> dict[str, Any]:
    begun = time.monotonic()
    done = command(arguments, log)
    return {"seconds": time.monotonic() - begun, "code": done.returncode, "document": json.loads(done.stdout or "{}")}


if __name__ == "__main__":
    typer.run(main)
