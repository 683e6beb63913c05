"""The exported files run in older versions of ONNX Runtime, as the README in their folder says.

Each version is installed into an environment of its own, from the package index or from what pip has kept of it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.data import open_dataset
from tasks.runtime import load_encoder
from tests.processes import own_environment
from tests.thorough import amount

_BETWEEN = ("1.20.1", "1.21.1", "1.22.1", "1.24.4", "1.25.1", "1.26.0", "1.27.0", "1.28.0", "1.29.0", "1.30.0")
VERSIONS = ("1.19.2", "1.23.2", "1.31.1", *amount((), _BETWEEN))
TEXTS = ["a photo of the digit seven", "two"]
_ALL = """
import json, sys
import numpy as np
snippet, feeds, out = sys.argv[1:]
made = {}
for path, feed in json.loads(feeds).items():
    names = {}
    exec(snippet.replace("image/fp8.onnx", path), names)
    made[path] = names["session"].run(None, dict(np.load(feed)))[0]
np.savez(out, **made)
try:
    names["ort"].InferenceSession("image/fp8.onnx", providers=["CPUExecutionProvider"])
except Exception as error:
    print("refused:", " ".join(str(error).split())[:60])
print("version:", names["ort"].__version__)
"""
"""Runs what README.md prints on every graph; prints what becomes of an FP8 graph without it."""


@pytest.fixture(scope="module")
def feeds(demo_export: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Inputs of real samples, by graph: a file of arrays by the graphs' names of them."""
    dataset = open_dataset("digits", "evaluation")
    folder, found = tmp_path_factory.mktemp("feeds"), {}
    with load_encoder(demo_export) as encoder:
        pixels = encoder._pixels([dataset.image(index) for index in range(16)], 0)["pixel_values"]
        given: dict[str, dict[str, Any]] = {
            "image": {"pixel_values": pixels.astype(np.float16)},
            "text": encoder._tokens(TEXTS, 0),
        }
    for name, arrays in given.items():
        np.savez(folder / f"{name}.npz", **arrays)
        found |= {f"{name}/{precision}.onnx": str(folder / f"{name}.npz") for precision in ("fp16", "fp8")}
    return found


def environment(version: str, folder: Path) -> Path:
    """A new environment with one version of ONNX Runtime; its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"onnxruntime=={version}"]
    unlocked = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    done = subprocess.run([*install, "numpy"], capture_output=True, text=True, check=False, env=unlocked)
    assert done.returncode == 0, done.stderr
    return python


def embeddings(python: Path | str, release: Path, feeds: dict[str, str], out: Path) -> tuple[dict[str, Any], str]:
    """What the code in the folder's README gives with the packages of `python`, and what that printed."""
    (snippet,) = re.findall(r"```python\n(.*?)```", (release / "README.md").read_text(), re.DOTALL)
    assert '"image/fp8.onnx"' in snippet
    command = [python, "-I", "-c", _ALL, snippet, json.dumps(feeds), out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=release, check=False)
    assert done.returncode == 0, done.stderr
    return dict(np.load(out)), done.stdout


def cosines(one: Any, other: Any) -> Any:
    first, second = (rows.astype(np.float64) for rows in (one, other))
    return (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


@pytest.mark.heavy
@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_version_computes_the_same(
    version: str, demo_export: Path, feeds: dict[str, str], tmp_path: Path
) -> None:
    wanted, _ = embeddings(sys.executable, demo_export, feeds, tmp_path / "here.npz")
    python = environment(version, tmp_path / "environment")
    found, told = embeddings(python, demo_export, feeds, tmp_path / "there.npz")
    assert f"version: {version}\n" in told
    assert "refused: " in told and "INVALID_GRAPH" in told, "an FP8 graph needs the option"
    for path in feeds:
        least = 0.9999 if "fp16" in path else 0.99  # rounding flips of FP8 are chaotic
        assert cosines(found[path], wanted[path]).min() > least, path

    # `load_encoder` with that version in place of ours: not the engine, which it may be too old for.
    (site,) = (tmp_path / "environment").glob("lib/*/site-packages")
    only = tmp_path / "only"
    only.mkdir()
    for part in site.glob("onnxruntime*"):
        (only / part.name).symlink_to(part)
    code = "import sys, numpy, onnxruntime; from tasks.runtime import load_encoder\n"
    code += f"assert onnxruntime.__version__ == {version!r}\n"
    code += f"with load_encoder({str(demo_export)!r}, precision='fp8') as encoder:\n"
    code += f"    numpy.save(sys.argv[1], encoder.embed_texts({TEXTS!r}))"
    path = os.pathsep.join([str(only), str(Path(__file__).parents[3])])
    command = [sys.executable, "-c", code, tmp_path / "texts.npy"]
    done = subprocess.run(command, capture_output=True, text=True, env=own_environment(PYTHONPATH=path), check=False)
    assert done.returncode == 0, done.stderr
    assert cosines(np.load(tmp_path / "texts.npy"), wanted["text/fp8.onnx"]).min() > 0.99
