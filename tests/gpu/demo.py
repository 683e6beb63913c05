"""The trained demo model for a GPU machine: `python -m tests.gpu.demo FOLDER`, where clipsmith is installed.

Writes FOLDER/{image,text}/{fp16,fp8}.onnx and FOLDER/evaluation.npz, about 5 MB to take along.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from artifacts.copies import exporting
from artifacts.store.store import Store
from deployments.server.environment import prepare_prefect
from tasks.bench.settings import ENCODERS, PRECISIONS
from tasks.serving.evaluation_file import write_evaluation

_HERE = Path(__file__).parents[2] / ".clipsmith" / "gpu" / "demo"


def write_demo(folder: Path) -> None:
    """Make a release of the demo without engines, and keep of it what the bench reads."""
    with tempfile.TemporaryDirectory(prefix="clipsmith-demo-") as work:
        store, release = Store.open(Path(work) / "store"), Path(work) / "release"
        exporting.export(store, store.find(_optimize(store)), release)
        files = [write_evaluation(release)]
        files += [release / encoder / f"{precision}.onnx" for encoder in ENCODERS for precision in PRECISIONS]
        for file in files:
            kept = folder / file.relative_to(release)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, kept)


def _optimize(store: Store) -> str:
    prepare_prefect()
    from deployments.server.run_optimize import run_optimize
    from flows.parameters import parse_parameters

    values = {"model": "demo", "store": str(store.root), "targets": []}
    return run_optimize(parse_parameters(values, where=__file__)).ref


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.demo", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=_HERE, help="(%(default)s)")
    write_demo(parser.parse_args().folder)
