"""The virtual environment of the published recipe, made when it is missing or its locked versions have changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.measure import ROOT

CONSTRAINTS = Path(__file__).with_name("recipe-constraints.txt")
FOLDER = ROOT / ".venv-recipe"
_STAMP = FOLDER / ".installed"
_PACKAGES = ("nvidia-modelopt[onnx]", "transformers", "requests")
"""ModelOpt's Hugging Face plugin imports `requests` without declaring it."""


def ensure_recipe_python() -> Path:
    """The environment's interpreter; making the environment takes a minute or two.

    Raises:
        subprocess.CalledProcessError: pip could not install a package.
    """
    python = FOLDER / "bin" / "python"
    wanted = CONSTRAINTS.read_text()
    if _STAMP.is_file() and _STAMP.read_text() == wanted:
        return python
    shutil.rmtree(FOLDER, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    # torch comes first and alone: resolved together with packages that need it, pip may choose a CUDA build.
    for packages in (("torch",), _PACKAGES):
        subprocess.run(
            [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *packages],
            env={**os.environ, "PIP_CONSTRAINT": str(CONSTRAINTS)},
            check=True,
        )
    _STAMP.write_text(wanted)
    return python
