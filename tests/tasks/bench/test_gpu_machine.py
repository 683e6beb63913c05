"""`python -m tests.gpu` with PyTorch and the few packages that it names: it loads, or says what it lacks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.needs import FOR_TESTS, PACKAGES
from tests.processes import own_environment

ROOT = Path(__file__).parents[3]
BLOCKED = (
    "prefect",
    "modelopt",
    "sklearn",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "onnxruntime",
    "polygraphy",
    "pynvml",
    "requests",
    "rich",
    "typer",
)
SMALL = """
from pathlib import Path
from tests.benchmarks.architectures import Architecture, Tower
from tests.gpu import command, exports
small = Architecture("small", Tower(1, 128, 2, 256), Tower(1, 128, 2, 256), 56, 64, "quick_gelu")
exports.make_export(Path(sys.argv[1]), small, Path(sys.argv[1]) / "skeletons", "cpu")
print(*{name.partition(".")[0] for name in sys.modules})
"""


def python(blocked: tuple[str, ...], code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A process that has none of these packages."""
    hidden = f"import sys\nsys.modules |= dict.fromkeys({blocked!r})\n"
    command = [sys.executable, "-c", hidden + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=own_environment())


def test_it_needs_what_it_names_and_nothing_of_the_pipelines(tmp_path: Path) -> None:
    """It loads, and makes encoders, which is what takes packages."""
    done = python(BLOCKED, SMALL, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"fp16.onnx", "fp8.onnx"} <= {path.name for path in (tmp_path / "image").iterdir()}
    assert PACKAGES.keys() <= set(done.stdout.split()), "what is named is used"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_is_named_before_anything_is_measured(package: str, tmp_path: Path) -> None:
    run = f"import runpy\nsys.argv = ['tests.gpu', '--out', {str(tmp_path / 'out')!r}]\n"
    done = python((package,), run + "runpy.run_module('tests.gpu', run_name='__main__')")
    name = PACKAGES[package]
    told = f"bench-gpu: not installed here: {name} (pip install {name}); it needs {', '.join(PACKAGES.values())}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)
    assert not (tmp_path / "out").exists()


def test_what_a_package_needs_itself_is_named_too() -> None:
    done = python(("annotated_types",), "import runpy\nrunpy.run_module('tests.gpu', run_name='__main__')")
    assert "not installed here: annotated_types (pip install annotated_types); " in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_make_asks_for_all_of_it_first() -> None:
    """The tests that follow need pytest, which would be missed only after minutes of measuring."""
    makefile = (ROOT / "Makefile").read_text()
    lines = re.search(r"^bench-gpu:\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert lines and lines[1].splitlines()[0].endswith("-m tests.gpu.needs")
    run = "import runpy\nrunpy.run_module('tests.gpu.needs', run_name='__main__')"
    done = python((*FOR_TESTS,), run)
    assert (done.returncode, done.stderr.split("(")[0]) == (1, "bench-gpu: not installed here: pytest ")
    assert python((), run).returncode == 0
