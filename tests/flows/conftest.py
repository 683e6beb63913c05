"""In-process runs of the flow on a small model, and a spy on the plain functions behind the cached steps."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from artifacts.manifest import Manifest
from artifacts.store.store import Store
from tests.flows.expected_steps import EVERYTHING

if TYPE_CHECKING:
    from tests.flows.keyed import Base

# Where the work is really done: the step's function must not even be entered when its result is cached.
FUNCTIONS = {
    "check": ("tasks.pipeline.checkpoint", "check"),
    "parity": ("tasks.pipeline.parity", "check_parity"),
    "trace": ("tasks.pipeline.onnx_export", "trace_encoder"),
    "probe": ("tasks.pipeline.attention_probe", "probe"),
    "study": ("tasks.pipeline.calibration_study", "study"),
    "calibrate": ("tasks.pipeline.calibration", "calibrate"),
    "quantize": ("tasks.pipeline.quantization", "quantize"),
    "fp16-range": ("tasks.pipeline.fp16_range", "check_range"),
    "export-fp16": ("tasks.pipeline.onnx_export", "export_fp16"),
    "export-fp8": ("tasks.pipeline.onnx_export", "export_fp8"),
    "audit": ("tasks.pipeline.graph_audit", "audit"),
    "build": ("tasks.pipeline.engine_build", "build"),
    "embed": ("tasks.pipeline.embedding", "embed"),
    "score": ("tasks.pipeline.accuracy", "score"),
    "latency": ("tasks.pipeline.latency", "measure"),
}
LABELS = ("encoder", "precision", "target")

Run = Callable[..., tuple[Manifest, list[str]]]


@contextmanager
def spied() -> Iterator[list[str]]:
    """The names of the steps whose work is done inside the block, for example `embed image fp8 onnxruntime`."""
    calls: list[str] = []
    patch = pytest.MonkeyPatch()
    for name, (module_name, function_name) in FUNCTIONS.items():
        module = importlib.import_module(module_name)
        replace_work(patch, module, function_name, _recorder(name, getattr(module, function_name), calls))
    try:
        yield calls
    finally:
        patch.undo()


def replace_work(patch: pytest.MonkeyPatch, module: ModuleType, name: str, spy: Callable[..., Any]) -> None:
    """Put `spy` in the place of a plain function, also in the task that is made of the function itself."""
    function = getattr(module, name)
    patch.setattr(module, name, spy)
    for step in vars(module).values():
        if getattr(step, "fn", None) is function:
            patch.setattr(step, "fn", spy)


def _recorder(name: str, function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        values = signature.bind(*arguments, **options).arguments
        calls.append(" ".join([name, *(values[label] for label in LABELS if label in values)]))
        return function(*arguments, **options)

    return call


def flip(path: Path) -> None:
    """Change one bit of a stored file."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def small_parameters(model: Path | str, store: Path, **changes: Any) -> dict[str, Any]:
    """Parameters for a run of a few seconds; `section__field=value` changes a field of a section."""
    values: dict[str, Any] = {
        "model": str(model),
        "store": str(store),
        "targets": ["onnxruntime"],
        "calibration": {"source": "digits", "samples": 16, "batch": 4},
        "evaluation": {"samples": 20, "batch": 8},
        "latency": {"batches": [1], "rounds": 5},
    }
    for name, value in changes.items():
        section, _, field = name.partition("__")
        if field:
            values.setdefault(section, {})[field] = value
        else:
            values[section] = value
    return values


@pytest.fixture(scope="session")
def run() -> Run:
    """`run(model, store, **changes)`: the release, and the steps whose work was done."""
    from flows.optimize import optimize
    from flows.parameters import OptimizeParameters

    def call(model: Path | str, store: Path, **changes: Any) -> tuple[Manifest, list[str]]:
        parameters = OptimizeParameters.model_validate(small_parameters(model, store, **changes))
        with spied() as calls:
            published = optimize(parameters)
        return Store.open(store, writable=False).find(published.ref), sorted(calls)

    return call


@pytest.fixture(scope="session")
def base(small_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The small CLIP through the wiring, without Prefect, every step doing its own work."""
    from tasks.data import opened
    from tests.flows.keyed import Base, KeyedRunner, StandIns, compute, run_wiring

    sources: list[tuple[str, str]] = []
    open_source = opened.open_dataset

    def recorded(spec: str, role: Any, *options: Any) -> Any:
        sources.append((spec, role))
        return open_source(spec, role, *options)

    runner, store = KeyedRunner({}, compute), Store.open(tmp_path_factory.mktemp("wiring") / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened, "open_dataset", recorded)
        patch.setattr(opened, "_kept", {})
        run_wiring(runner, small_clip, store)
    assert sorted(runner.calls) == sorted(EVERYTHING)
    return Base(small_clip, store, runner.kept, StandIns(runner.outputs), sources)
