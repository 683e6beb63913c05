"""ONNX Runtime on the CPU: the target that runs anywhere; its engine is the optimized model."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from artifacts.errors import BuildError
from tasks.engines.base import BatchProfile
from tasks.quiet import quiet_polygraphy
from tasks.steps import package_version

_EXTERNAL_KEY = "session.optimized_model_external_initializers_file_name"


class OnnxRuntime:
    """Target `onnxruntime`. Its CPU kernels compute in FP32, so FP16 and FP8 are both emulated."""

    name = "onnxruntime"

    def accepts(self, target: str) -> bool:
        return target == self.name

    def targets(self) -> tuple[str, ...]:
        return (self.name,)

    def why_not_build(self, target: str) -> str | None:
        del target
        return None

    def why_not_run(self, target: str) -> str | None:
        del target
        return None

    def environment(self) -> dict[str, str]:
        return {}

    def build(self, onnx: Path, engine: Path, target: str, profile: BatchProfile) -> None:
        """Save the model as ONNX Runtime optimizes it; level "extended" is portable between CPUs."""
        import onnxruntime as ort

        del target, profile
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(engine)
        if onnx.with_name(f"{onnx.name}.data").exists():
            options.add_session_config_entry(_EXTERNAL_KEY, f"{engine.name}.data")
        try:
            ort.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BuildError(f"ONNX Runtime refuses the graph: {error}", where=onnx.name) from error

    def runner(self, engine: Path, name: str) -> Any:
        from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx

        quiet_polygraphy()
        return OnnxrtRunner(SessionFromOnnx(str(engine), providers=["CPUExecutionProvider"]), name=name)

    def versions(self) -> dict[str, str]:
        return {"onnxruntime": package_version("onnxruntime")}

    def device(self) -> str:
        return cpu_name()

    def built_for(self, target: str) -> str:
        del target
        return "any CPU"

    def emulation(self, precision: str) -> str | None:
        if precision == "fp8":
            return "emulated: FP8 operands are dequantized and multiplied in FP32"
        return "emulated: FP16 operands are cast and multiplied in FP32"


def cpu_name() -> str:
    """The processor's name as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
