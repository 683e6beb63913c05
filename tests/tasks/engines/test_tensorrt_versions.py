"""The builder of target `tensorrt` does with version 10 and with version 11, which is strongly typed and nothing else.

Neither is installed here: builds are asked of a stand-in, whose names are held against the real packages' bindings.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.processes import own_environment
from tests.tasks.engines import fake_tensorrt, runtime

BUILD = """
import json, sys
from pathlib import Path
from tests.tasks.engines import fake_tensorrt
sys.modules["tensorrt"] = fake_tensorrt
from tasks.engines import BatchProfile, backend_for
onnx, engine = map(Path, sys.argv[1:])
backend_for("tensorrt").build(onnx, engine, "tensorrt", BatchProfile(min=2, opt=5, max=9))
print(json.dumps(fake_tensorrt.ASKED))
"""
BINDINGS = ("10.14.1.48.post1", "11.4.0.106")


@pytest.mark.parametrize(("version", "flags"), [("10.14.1.48", 1 << 1), ("11.4.0.106", 0)])
def test_what_the_builder_is_asked_for(version: str, flags: int, demo_graph: Any, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(demo_graph("image", "fp8")), str(tmp_path / "e.engine")],
        env=own_environment(CLIPSMITH_FAKE_TENSORRT=version, PYTHONPATH=str(Path(__file__).parents[3])),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "e.engine").read_bytes() == b"engine"
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "strongly_typed": True,
        "flags": flags,
        "shapes": ["pixel_values", [2, 3, 32, 32], [5, 3, 32, 32], [9, 3, 32, 32]],
        "cleared": ["TF32"],
        "level": 3,
        "verbosity": "DETAILED",
        "profiles": 1,
    }


def names() -> set[str]:
    """What the stand-ins of the builder and of the runtime are called, and what they have."""
    found = set()
    for module in (fake_tensorrt, runtime):
        classes = [
            each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__
        ]
        found |= {each.__name__ for each in classes}
        found |= {name for each in classes for name in vars(each)}
    ours = {"inputs", "output", "report", "times", "refuses", "streams", "contexts", "compute", "addresses"}
    return {name for name in found if not name.startswith("_")} - ours - {"Context", "Engine", "EXPLICIT_BATCH"}


@pytest.mark.heavy
@pytest.mark.parametrize("version", BINDINGS)
def test_the_real_bindings_have_every_name(version: str, tmp_path: Path) -> None:
    """In the bindings' own module, which needs TensorRT's libraries to be imported: as text in its file."""
    package = f"tensorrt-cu13-bindings=={version}"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path, package]
    done = subprocess.run(download, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        data = files.read("tensorrt_bindings/tensorrt.so")
    assert len(names()) > 40
    assert [name for name in sorted(names()) if f"{name}\0".encode() not in data] == []
    assert (b"\0EXPLICIT_BATCH\0" in data) == (version < "11")
