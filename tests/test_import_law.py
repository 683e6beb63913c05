"""Data flows one way, and the folders show it: artifacts <- tasks <- flows <- deployments; steps stay strangers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("artifacts", "tasks", "flows", "deployments")
HEAVY = ("torch", "modelopt", "tensorrt", "tensorrt_rtx", "onnxruntime", "transformers")
STEP_MARKS = {"task", "cached_step"}

# A module with a task in it may be imported by another such module only for the data it defines.
ALLOWED = {
    # The reference to a pinned data set is what steps hand each other, as `tasks.checkpoints.snapshot` is for checkpoints.
    ("tasks.pipeline.calibration", "tasks.data.pinned"): {"DataRef"},
    ("tasks.pipeline.calibration_study", "tasks.data.pinned"): {"DataRef"},
    ("tasks.pipeline.embedding", "tasks.data.pinned"): {"DataRef"},
    ("tasks.pipeline.fp16_range", "tasks.data.pinned"): {"DataRef"},
    ("tasks.pipeline.accuracy", "tasks.data.pinned"): {"DataRef"},
    # Accuracy reads what embedding kept: its result model, and its file names.
    ("tasks.pipeline.accuracy", "tasks.pipeline.embedding"): {
        "EMBEDDINGS_FILE",
        "KEYS_FILE",
        "REFERENCE",
        "Embeddings",
    },
    ("tasks.prefect_ui.release_artifacts", "tasks.pipeline.publish"): {"Draft"},
}


def sources(*rooms: str) -> dict[str, Path]:
    """Every module of these rooms by its dotted name."""
    found = {}
    for room in rooms:
        for path in (ROOT / room).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name) for every import in a file, nested ones included; the name is None for `import module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def step_modules() -> set[str]:
    """The modules of tasks/ that define a Prefect task."""
    found = set()
    for name, path in sources("tasks").items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in getattr(node, "decorator_list", []):
                function = mark.func if isinstance(mark, ast.Call) else mark
                if getattr(function, "id", None) in STEP_MARKS:
                    found.add(name)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room: str) -> None:
    forbidden = set(ROOMS[ROOMS.index(room) + 1 :]) | {"tests"}
    assert sources(room)
    wrong = [
        f"{name} imports {module}"
        for name, path in sources(room).items()
        for module, _ in imports(path)
        if module.split(".")[0] in forbidden
    ]
    assert wrong == []


def test_artifacts_know_neither_torch_nor_tensorrt_nor_prefect() -> None:
    foreign = {*HEAVY, "onnx", "prefect", "polygraphy"}
    wrong = [
        f"{name} imports {module}"
        for name, path in sources("artifacts").items()
        for module, _ in imports(path)
        if module.split(".")[0] in foreign
    ]
    assert wrong == []


def test_step_modules_are_found() -> None:
    wanted = (
        "checkpoint calibration quantization onnx_export graph_audit engine_build embedding accuracy latency publish"
    )
    assert {f"tasks.{name}" for name in wanted.split()} <= step_modules()


def test_step_modules_do_not_import_each_other() -> None:
    steps = step_modules()
    found: dict[tuple[str, str], set[str]] = {}
    for name in steps:
        for module, member in imports(sources("tasks")[name]):
            target = module if module in steps else f"{module}.{member}"
            if target in steps and target != name:
                found.setdefault((name, target), set()).add(member or "*")
    surplus = {pair: names - ALLOWED.get(pair, set()) for pair, names in found.items()}
    assert {pair: names for pair, names in surplus.items() if names} == {}
    assert ALLOWED.keys() <= found.keys(), "an exception that nothing needs any more"


def test_only_publish_publishes() -> None:
    callers = {
        name
        for name, path in sources(*ROOMS).items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "publish"
    }
    assert callers == {"tasks.pipeline.publish"}


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    names = {part for name in sources(*ROOMS) for part in name.split(".")}
    assert names & set(sys.stdlib_module_names) == set()


def loaded_by(statement: str) -> set[str]:
    """Top-level packages that a fresh Python has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_line_starts_without_heavy_packages() -> None:
    loaded = loaded_by("import deployments.cli")
    assert "typer" in loaded
    assert loaded & {*HEAVY, "prefect", "onnx", "pandas", "numpy", "matplotlib"} == set()


def test_help_is_printed_without_heavy_packages() -> None:
    statement = "import contextlib, io\nfrom deployments.cli import app\n"
    statement += (
        "with contextlib.redirect_stdout(io.StringIO()):\n    app(['optimize', '--help'], standalone_mode=False)"
    )
    assert loaded_by(statement) & {*HEAVY, "prefect", "onnx", "pandas"} == set()


def test_no_module_loads_heavy_packages_when_imported() -> None:
    # These subclass classes of Polygraphy, torch and ModelOpt, or register operators with torch, and are themselves
    # imported inside functions.
    lazy = {
        "tasks.quantizing.torch_runner",
        "tasks.clip.pooling",
        "tasks.quantizing.largest_values",
        "tasks.quantizing.activation_histogram",
    }
    lazy |= {f"tasks.bench.{name}" for name in ("torch_ops", "fused_ops", "triton_kernels")}
    names = [name for name in sources("artifacts", "tasks", "flows", "deployments") if name not in lazy]
    assert loaded_by(f"import {', '.join(names)}") & {*HEAVY, "polygraphy", "pandas"} == set()


def test_modules_that_are_only_imported_lazily_are_so() -> None:
    for name, path in sources(*ROOMS).items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                assert node.module != "tasks.quantizing.torch_runner", name
