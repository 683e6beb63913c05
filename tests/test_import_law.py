"""Data flows one way, and the folders show it: artifacts <- tasks <- flows <- deployments; steps stay strangers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tasks.device.gpu import gpu_count

ROOT = Path(__file__).parent.parent
TOPS = ("artifacts", "tasks", "flows", "deployments")
ROOMS = (
    "artifacts",
    "artifacts.release",
    "artifacts.store",
    "artifacts.copies",
    "artifacts.report",
    "artifacts.keeping",
    "tasks",
    "tasks.clip",
    "tasks.towers",
    "tasks.openclip",
    "tasks.families",
    "tasks.torch_fp8",
    "tasks.runs",
    "tasks.checkpoints",
    "tasks.device",
    "tasks.data",
    "tasks.engines",
    "tasks.demo",
    "tasks.quantizing",
    "tasks.graph",
    "tasks.evaluation",
    "tasks.inspection",
    "tasks.runtime",
    "tasks.bench",
    "tasks.serving",
    "tasks.pipeline",
    "tasks.comparing",
    "tasks.prefect_ui",
    "tasks.search",
    "flows",
    "deployments.printing",
    "deployments.server",
    "deployments.commands",
    "deployments",
)
"""Every room, in an order in which each imports only rooms before it: nothing runs upwards, and there is no circle.

A room is a package; files right below a top folder are a room too. CONTRIBUTING shows the same list as a map.
"""
HEAVY = ("torch", "modelopt", "tensorrt", "tensorrt_rtx", "onnxruntime", "transformers")
STEP_MARKS = {"task", "cached_step"}

# A module with a task in it may be imported by another such module only for the data it defines.
ALLOWED = {
    # The reference to a pinned data set is what steps hand each other, as `snapshot` is for checkpoints.
    ("tasks.pipeline.calibration", "tasks.data.pinned"): {"DataRef"},
    ("tasks.pipeline.calibration_study", "tasks.data.pinned"): {"DataRef"},
    ("tasks.pipeline.embedding", "tasks.data.pinned"): {"DataRef"},
    ("tasks.pipeline.executor_check", "tasks.data.pinned"): {"DataRef"},
    ("tasks.pipeline.fp16_range", "tasks.data.pinned"): {"DataRef"},
    ("tasks.pipeline.accuracy", "tasks.data.pinned"): {"DataRef"},
    # Accuracy reads what embedding kept: its result model.
    ("tasks.pipeline.accuracy", "tasks.pipeline.embedding"): {"Embeddings"},
    ("tasks.prefect_ui.release_artifacts", "tasks.pipeline.publish"): {"Draft"},
}


@cache
def sources() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for top in TOPS:
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """The room that a module of ours lies in."""
    return ".".join(sources()[module].parent.relative_to(ROOT).parts)


@cache
def syntax(name: str) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(sources()[name].read_text(encoding="utf-8"))


def imports(name: str) -> Iterator[tuple[str, str | None]]:
    """(module, name) for every import in a module, nested ones included; the name is None for `import module`."""
    for node in ast.walk(syntax(name)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def imported_modules(name: str) -> set[str]:
    """The modules of ours that a module imports."""
    named = {f"{module}.{member}" if f"{module}.{member}" in sources() else module for module, member in imports(name)}
    return named & sources().keys()


def step_modules() -> set[str]:
    """The modules of tasks/ that define a Prefect task."""
    found = set()
    for name in sources():
        for node in ast.walk(syntax(name)) if name.startswith("tasks.") else ():
            marks = [*getattr(node, "decorator_list", []), *([node.value] if isinstance(node, ast.Assign) else [])]
            for mark in marks:  # `@cached_step(...)`, `@task`, or `name = cached_step(...)(function)`
                while isinstance(mark, ast.Call):
                    mark = mark.func
                if getattr(mark, "id", None) in STEP_MARKS:
                    found.add(name)
    return found


def test_every_room_is_listed_once() -> None:
    assert sorted(ROOMS) == sorted({room_of(name) for name in sources()})


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room: str) -> None:
    later = ROOMS[ROOMS.index(room) + 1 :]
    wrong = [
        f"{name} imports {module}"
        for name in sources()
        if room_of(name) == room
        for module in imported_modules(name)
        if room_of(module) in later
    ]
    assert wrong == []


def test_nothing_imports_the_tests() -> None:
    assert [name for name in sources() for module, _ in imports(name) if module.split(".")[0] == "tests"] == []


def test_artifacts_know_neither_torch_nor_tensorrt_nor_prefect() -> None:
    foreign = {*HEAVY, "onnx", "prefect", "polygraphy"}
    wrong = [
        f"{name} imports {module}"
        for name in sources()
        if name.startswith("artifacts.")
        for module, _ in imports(name)
        if module.split(".")[0] in foreign
    ]
    assert wrong == []


def test_step_modules_are_found() -> None:
    wanted = (
        "checkpoint calibration quantization onnx_export graph_audit engine_build embedding accuracy latency publish"
    )
    assert {f"tasks.pipeline.{name}" for name in wanted.split()} <= step_modules()


def test_step_modules_do_not_import_each_other() -> None:
    steps = step_modules()
    found: dict[tuple[str, str], set[str]] = {}
    for name in steps:
        for module, member in imports(name):
            target = module if module in steps else f"{module}.{member}"
            if target in steps and target != name:
                found.setdefault((name, target), set()).add(member or "*")
    surplus = {pair: names - ALLOWED.get(pair, set()) for pair, names in found.items()}
    assert {pair: names for pair, names in surplus.items() if names} == {}
    assert ALLOWED.keys() <= found.keys(), "an exception that nothing needs any more"


def callers(*called: str) -> set[str]:
    """The modules that call `<anything>.<called[0]>`, or `<called[0]>.<called[1]>`."""
    return {
        name
        for name in sources()
        for node in ast.walk(syntax(name))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-len(called) :] == list(called)
        if isinstance(node.func, ast.Attribute)
    }


def test_only_publish_publishes() -> None:
    assert callers("publish") == {"tasks.pipeline.publish"}


def test_users_stores_are_opened_where_buckets_are_known() -> None:
    below = ("artifacts.store.", "artifacts.copies.opening")
    assert {name for name in callers("Store", "open") if not name.startswith(below)} == set()
    assert callers("Store", "open")


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    names = {part for name in sources() for part in name.split(".")}
    assert names & set(sys.stdlib_module_names) == set()


def loaded_by(statement: str) -> set[str]:
    """Top-level packages that a fresh Python has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_line_starts_without_heavy_packages() -> None:
    loaded = loaded_by("import deployments.cli")
    assert "typer" in loaded
    assert loaded & {*HEAVY, "prefect", "onnx", "pandas", "numpy", "matplotlib", "fsspec"} == set()


def test_help_is_printed_without_heavy_packages() -> None:
    statement = "import contextlib, io\nfrom deployments.cli import app\n"
    statement += (
        "with contextlib.redirect_stdout(io.StringIO()):\n    app(['optimize', '--help'], standalone_mode=False)"
    )
    assert loaded_by(statement) & {*HEAVY, "prefect", "onnx", "pandas"} == set()


@pytest.mark.parametrize("command", ["--version", "targets", "recipes", "gates"])
def test_names_are_listed_without_heavy_packages(command: str) -> None:
    statement = "import contextlib, io\nfrom deployments.cli import app\n"
    statement += f"with contextlib.redirect_stdout(io.StringIO()):\n    app([{command!r}], standalone_mode=False)"
    gpu = {"torch"} if command == "targets" and gpu_count() else set()  # which of its arithmetic only PyTorch knows
    assert loaded_by(statement) & ({*HEAVY, "prefect", "onnx", "pandas"} - gpu) == set()


def test_no_module_loads_heavy_packages_when_imported() -> None:
    # These subclass classes of Polygraphy, torch and ModelOpt, or register operators with torch, and are themselves
    # imported inside functions.
    lazy = {f"tasks.quantizing.{name}" for name in ("torch_runner", "largest_values", "observers")}
    lazy |= {"tasks.quantizing.activation_histogram"}
    lazy |= {f"tasks.torch_fp8.{name}" for name in ("torch_ops", "fused_ops", "triton_kernels", "rounding_kernel")}
    lazy |= {"tasks.quantizing.counting_kernel"}
    lazy |= {"tasks.engines.graph_executor", "tasks.evaluation.judge"}
    lazy |= {f"tasks.clip.{name}" for name in ("patch_grid", "pooling")}
    lazy |= {f"tasks.towers.{name}" for name in ("rotary", "layers", "image", "text", "model")}
    names = [name for name in sources() if name not in lazy]
    assert loaded_by(f"import {', '.join(names)}") & {*HEAVY, "polygraphy", "pandas"} == set()


def test_modules_that_are_only_imported_lazily_are_so() -> None:
    for name in sources():
        for node in syntax(name).body:
            if isinstance(node, ast.ImportFrom):
                assert node.module != "tasks.quantizing.torch_runner", name
