"""What `make bench-gpu` needs beside an NVIDIA GPU: `python -m tests.gpu.needs` names what is missing.

Nothing else of ours is imported before they are there, so that the line is all that is printed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

PACKAGES = {
    "torch": "torch",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "onnx_ir": "onnx-ir",
    "ml_dtypes": "ml_dtypes",
    "safetensors": "safetensors",
    "transformers": "transformers",
    "yaml": "PyYAML",
    "pydantic": "pydantic",
}
"""Of `python -m tests.gpu`: what is imported, and what installs it."""
FOR_TESTS = {"pytest": "pytest"}
"""Of the tests that come after it."""


def missing(packages: dict[str, str]) -> list[str]:
    """What is to be installed, by pip's names: of these packages, and of theirs only where all of these are there."""
    found = [distribution for name, distribution in packages.items() if importlib.util.find_spec(name) is None]
    if found:
        return found
    try:
        importlib.import_module("tests.gpu.command")
    except ModuleNotFoundError as error:
        lacking = (error.name or "").partition(".")[0]
        if lacking in ("", "artifacts", "tasks", "tests"):
            raise
        return [lacking]
    return []


def told(lacking: Sequence[str]) -> str:
    """One line."""
    names = " ".join(lacking)
    return f"bench-gpu: not installed here: {names} (pip install {names}); it needs {', '.join(PACKAGES.values())}"


if __name__ == "__main__":
    lacking = missing(PACKAGES | FOR_TESTS)
    sys.exit(told(lacking) if lacking else 0)
