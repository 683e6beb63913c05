"""The commands that build and time an engine by hand, with NVIDIA's own tools or a Python package's command.

Flags are those of NVIDIA's documentation; `tests/tasks/engines/public_flags.json` lists them with URLs. TensorRT 10
needs `--stronglyTyped`, `--useCudaGraph`, `--noDataTransfers` and `--useSpinWait`; version 11 still accepts them, and
does all four by default.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from artifacts.errors import UnknownTarget
from tasks.engines.base import BatchProfile
from tasks.engines.tensorrt import BUILDER_LEVEL

Shapes = Mapping[str, tuple[int, ...]]
"""The inputs of a graph: their shapes by name, without the batch dimension."""

_ONNX_RUNTIME = """\
import pathlib, sys, onnxruntime as ort
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
options.optimized_model_filepath = sys.argv[2]
if pathlib.Path(sys.argv[1] + ".data").exists():
    name = pathlib.Path(sys.argv[2] + ".data").name
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", name)
ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])"""
_TORCH = ("python", "-m", "tasks.torch_fp8.aot")
_POLYGRAPHY_RTX = ("env", "POLYGRAPHY_USE_TENSORRT_RTX=1", "polygraphy", "convert")


@dataclass(frozen=True)
class Engine:
    """One engine: `onnx` and `path` are the file names used in commands; `kept` is the prefix of cache files' names."""

    target: str
    onnx: str
    path: str
    kept: str
    inputs: Shapes
    profile: BatchProfile


def build_command(engine: Engine) -> list[str]:
    """The command that builds the engine: `trtexec`, `tensorrt_rtx`, or Python for ONNX Runtime and PyTorch.

    Raises:
        UnknownTarget: there is no such command for the target.
    """
    if engine.target == "onnxruntime":
        return ["python", "-c", _ONNX_RUNTIME, engine.onnx, engine.path]
    if engine.target == "torch-fp8":
        sizes = [part for size, batch in engine.profile.model_dump().items() for part in (f"--{size}", str(batch))]
        return [*_TORCH, "build", engine.onnx, engine.path, *sizes]
    shapes = [f"--{size}Shapes={_batched(engine.inputs, batch)}" for size, batch in engine.profile.model_dump().items()]
    shared = [f"--onnx={engine.onnx}", *shapes, "--profilingVerbosity=detailed", "--skipInference"]
    saved = f"--saveEngine={engine.path}"
    if engine.target == "tensorrt":
        cache = f"--timingCacheFile={engine.kept}.timing"
        own = ["--stronglyTyped", "--noTF32", f"--builderOptimizationLevel={BUILDER_LEVEL}", cache]
        return ["trtexec", *shared, *own, saved]
    capability = _capability(engine.target)
    aim = "--useGpu" if capability is None else f"--computeCapabilities={capability}"
    return ["tensorrt_rtx", *shared, aim, saved]


def package_command(engine: Engine) -> list[str] | None:
    """For TensorRT for RTX, the same build with the command of a Python package; None for other targets."""
    if not engine.target.startswith("trtrtx"):
        return None
    capability = _capability(engine.target)
    aim = ["--use-gpu"] if capability is None else ["--compute-capabilities", f"{capability[:-1]}.{capability[-1]}"]
    shapes = [
        part
        for size, batch in engine.profile.model_dump().items()
        for part in (f"--trt-{size}-shapes", *_bracketed(engine.inputs, batch))
    ]
    flags = ["--convert-to", "trt", "--strongly-typed", *aim, *shapes, "--output", engine.path]
    return [*_POLYGRAPHY_RTX, engine.onnx, *flags]


def run_command(engine: Engine, batch: int) -> list[str]:
    """The command that times the engine with one batch size.

    Raises:
        UnknownTarget: there is no such command for the target.
    """
    if engine.target == "onnxruntime":
        timed = ["--sequential-runners", "--warm-up", "10", "--iterations", "100"]
        shapes = ["--input-shapes", *_bracketed(engine.inputs, batch)]
        return ["polygraphy", "run", engine.path, "--model-type", "onnx", "--onnxrt", *timed, *shapes]
    if engine.target == "torch-fp8":
        return [*_TORCH, "time", engine.path, "--batch", str(batch)]
    loaded = [f"--loadEngine={engine.path}", f"--shapes={_batched(engine.inputs, batch)}"]
    patience = ["--warmUp=2000", "--duration=10"]
    if engine.target == "tensorrt":
        return ["trtexec", *loaded, *patience, "--useCudaGraph", "--noDataTransfers", "--useSpinWait"]
    _capability(engine.target)
    kept = f"--runtimeCacheFile={engine.kept}.kernels"
    return ["tensorrt_rtx", *loaded, *patience, "--specializeStrategyDS=eager", kept]


def shell_line(command: list[str]) -> str:
    """A command as a shell line, with one flag per line."""
    first, *rest = (shlex.quote(part) for part in command)
    return first + "".join(f" \\\n    {part}" if part.startswith("--") else f" {part}" for part in rest)


def _capability(target: str) -> str | None:
    """`89` for `trtrtx-sm89`; None for `trtrtx`, which means this machine's GPU.

    Raises:
        UnknownTarget: it is neither.
    """
    name, _, capability = target.partition("-sm")
    if name != "trtrtx":
        raise UnknownTarget(
            f"no command for target {target!r}", expected="onnxruntime, tensorrt, torch-fp8 or trtrtx[-smNN]"
        )
    return capability or None


def _batched(inputs: Shapes, batch: int) -> str:
    """`name:8x3x224x224,...`"""
    return ",".join(f"{name}:{'x'.join(map(str, (batch, *sizes)))}" for name, sizes in inputs.items())


def _bracketed(inputs: Shapes, batch: int) -> list[str]:
    """`name:[8,3,224,224]`, one argument each."""
    return [f"{name}:[{','.join(map(str, (batch, *sizes)))}]" for name, sizes in inputs.items()]
