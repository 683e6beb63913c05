"""Where and with what a benchmark ran."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.benchmarks.recipe_env import CONSTRAINTS

_OURS = ("clipsmith", "torch", "transformers", "onnx", "onnxscript", "numpy", "tensorrt-rtx")
_RECIPE = ("nvidia-modelopt", "torch", "transformers", "onnx", "onnxruntime-gpu")


def describe() -> dict[str, Any]:
    """Date, processor, cores, memory in GB (10^9 bytes) and versions."""
    locked = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _line("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(_line("/proc/meminfo", "MemTotal").split()[0]) * 1024 / 1e9, 1),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _OURS},
        "recipe_versions": {name: locked[name] for name in _RECIPE},
    }


def _line(path: str, key: str) -> str:
    """The value of the first `key: value` line of a file of /proc."""
    for line in Path(path).read_text().splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return "unknown"
