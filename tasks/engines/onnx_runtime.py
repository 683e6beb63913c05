"""ONNX Runtime on the CPU: the target that runs everywhere; its engine is the optimized model."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import BuildError
from tasks.clip.base import MASK, made_up_tokens
from tasks.engines.base import Backend, BatchProfile, Platform
from tasks.engines.checked import CheckedRunner
from tasks.runs.stdout_to_log import quiet_polygraphy
from tasks.runs.versions import package_version

_EXTERNAL_KEY = "session.optimized_model_external_initializers_file_name"
_FIRST_FP8 = (1, 32)
"""The first version that loads our FP8 graphs unchanged. Older ones, from 1.19 on, insert a Transpose of float8, which
opset 20 does not have, unless their handling of Q/DQ pairs is switched off."""
_SAME_COSINE = 0.995
"""The least cosine of a sample's two embeddings: FP8 rounding is chaotic, so a reordered sum can move one sample far
(0.999 was measured)."""


class OnnxRuntime(Backend):
    """Target `onnxruntime`. Its CPU kernels compute in FP32, so FP16 and FP8 are both emulated."""

    name = "onnxruntime"
    times_kernels = False

    def about(self, target: str) -> str:
        del target
        return "ONNX Runtime on the processor, FP16 and FP8 emulated"

    def build(self, onnx: Path, engine: Path, target: str, profile: BatchProfile) -> None:
        """Save the model as optimized by ONNX Runtime, at level "extended", which is portable between CPUs."""
        import onnxruntime as ort

        del target, profile
        options = session_options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(engine)
        if onnx.with_name(f"{onnx.name}.data").exists():
            options.add_session_config_entry(_EXTERNAL_KEY, f"{engine.name}.data")
        try:
            ort.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BuildError(f"ONNX Runtime refuses the graph: {error}", where=onnx.name) from error
        _check_same(onnx, engine)

    def runner(self, engine: Path, name: str) -> Any:
        """A runner for an ONNX file, which is data, not native code: it needs no record of its platform."""
        import onnxruntime as ort
        from polygraphy.backend.onnxrt import OnnxrtRunner

        def session() -> Any:
            return ort.InferenceSession(str(engine), session_options(), providers=["CPUExecutionProvider"])

        quiet_polygraphy()
        return CheckedRunner(OnnxrtRunner(session, name=name), None)

    def platform(self, target: str) -> Platform:
        del target
        return Platform(runtime=self.name, version=package_version(self.name))

    def device(self) -> str:
        return cpu_name()

    def built_for(self, target: str) -> str:
        del target
        return "any CPU"

    def emulation(self, precision: str) -> str | None:
        if precision == "fp8":
            return "emulated: FP8 operands are dequantized and multiplied in FP32"
        return "emulated: FP16 operands are cast and multiplied in FP32"


def version() -> tuple[int, ...]:
    """(major, minor) of the installed ONNX Runtime, of whichever distribution."""
    import onnxruntime as ort

    return parsed(ort.__version__)


def parsed(text: str) -> tuple[int, ...]:
    """(major, minor) of a version of ONNX Runtime; empty if the text is not a version."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return tuple(map(int, match.groups())) if match else ()


def session_options() -> Any:
    """Options with which this version of ONNX Runtime loads all our graphs, printing only errors."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if version() < _FIRST_FP8:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _check_same(onnx: Path, engine: Path) -> None:
    """Run both files once and compare: accuracy is measured on the ONNX file, so the engine must compute the same.

    Raises:
        BuildError: their outputs differ by more than reordered arithmetic explains.
    """
    import onnxruntime as ort

    outputs = []
    for path in (onnx, engine):
        session = ort.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
        feed = {item.name: _random_input(item) for item in session.get_inputs()}
        outputs.append(session.run(None, feed)[0].astype(np.float64))
    first, second = outputs
    cosine = np.sum(first * second, axis=1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))
    if not np.all(cosine >= _SAME_COSINE):
        raise BuildError(f"the optimized model computes something else: cosine {cosine.min():.6f}", where=engine.name)


def _random_input(item: Any) -> NDArray[Any]:
    """One sample of random pixels or token ids for a graph input."""
    rng = np.random.default_rng(0)
    shape = (1, *item.shape[1:])
    if item.name == MASK:
        return np.ones(shape, np.int64)
    if "int" in item.type:
        return made_up_tokens(rng, shape)
    return rng.standard_normal(shape).astype(np.float16)


def cpu_name() -> str:
    """The CPU's name, from the kernel."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
