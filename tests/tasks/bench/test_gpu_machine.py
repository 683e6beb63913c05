"""`python -m tests.gpu` on a machine with PyTorch and the few packages that it names: it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.processes import own_environment

ROOT = Path(__file__).parents[3]
BLOCKED = (
    "prefect",
    "modelopt",
    "transformers",
    "sklearn",
    "pandas",
    "onnxruntime",
    "polygraphy",
    "rich",
    "typer",
    "tqdm",
)


def test_it_loads_without_the_pipelines_packages() -> None:
    code = f"import sys\nsys.modules |= dict.fromkeys({BLOCKED!r})\nimport tests.gpu.__main__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=own_environment(), check=True)
