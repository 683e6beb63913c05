"""TensorRT and TensorRT for RTX through Polygraphy: strongly typed networks, one batch profile.

TensorRT for RTX builds ahead of time for a given compute capability, also without a GPU; TensorRT builds for this
machine's GPU. Polygraphy chooses between them by `POLYGRAPHY_USE_TENSORRT_RTX`, which it reads when it is imported, so
a process can use only one of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from artifacts.errors import BuildError, EngineConflict, EngineFailed, EngineUnavailable, NotDetailed
from tasks.device.gpu import gpu_capability, gpu_count, gpu_name
from tasks.engines.base import NO_GPU, BatchProfile, GpuBackend, Platform
from tasks.engines.caches import FOLDER_VARIABLE, KernelCache, cache_folder, kept_file, own_copy
from tasks.engines.checked import CheckedRunner
from tasks.engines.inspector import made_of, read_layers
from tasks.engines.plan import Made, read_made
from tasks.engines.record import EngineRecord, read_engine
from tasks.engines.resident import DeviceEngine
from tasks.runs.stdout_to_log import quiet_polygraphy
from tasks.runs.versions import package_version

_RTX_SM = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""Compute capabilities that tensorrt-rtx 1.7 builds for ahead of time; it loads engines only on these."""
_FIRST_FP8_SM = 89
BUILDER_LEVEL = 3
"""TensorRT's optimization level, 0 to 5: its default, set explicitly. Other levels have not been measured."""


class _Polygraphy(GpuBackend, Protocol):
    """The base of both runtimes."""

    module: str

    def _missing(self) -> str | None:
        if importlib.util.find_spec(self.module) is None:
            return f"the package {self.module} is not installed (pip install {self.module.replace('_', '-')})"
        return None

    def build(self, onnx: Path, engine: Path, target: str, profile: BatchProfile) -> None:
        """Parse, build and write one engine.

        Raises:
            BuildError: the parser or the builder refused the graph.
        """
        from polygraphy.backend.trt import EngineBytesFromNetwork, NetworkFromOnnxPath, Profile
        from polygraphy.exception import PolygraphyException

        def configure(builder: Any, network: Any) -> Any:
            shapes = Profile()
            for index in range(network.num_inputs):
                tensor = network.get_input(index)
                rest = tuple(tensor.shape)[1:]
                shapes.add(tensor.name, (profile.min, *rest), (profile.opt, *rest), (profile.max, *rest))
            return self._config(target, shapes, None if cache is None else str(cache))(builder, network)

        with own_copy(self._timings()) as cache:
            kept = {} if cache is None else {"save_timing_cache": str(cache)}
            # From version 11 on all networks are strongly typed, and the flag may not exist.
            flags = importlib.import_module(self.module).NetworkDefinitionCreationFlag
            network = NetworkFromOnnxPath(str(onnx), strongly_typed=hasattr(flags, "STRONGLY_TYPED"))
            try:
                data = EngineBytesFromNetwork(network, config=configure, **kept)()
            except PolygraphyException as error:
                raise BuildError(
                    f"{self.name} cannot build {onnx.name}: {error}", where=target, fix="see the builder's log"
                ) from error
        engine.write_bytes(data)

    def _timings(self) -> Path | None:
        """The file of the builder's timing cache; None if it has none."""
        return None

    def _config(self, target: str, shapes: Any, cache: str | None) -> Any:
        """A function from a builder and a network to the builder's configuration, with detailed layer information."""
        raise NotImplementedError

    def runner(self, engine: Path, name: str) -> Any:
        data, record = self._read(engine)
        _choose_flavour(rtx=self.module == "tensorrt_rtx")
        from polygraphy.backend.trt import EngineFromBytes, TrtRunner

        quiet_polygraphy()
        loaded, close = self._loaded(EngineFromBytes(data))
        return CheckedRunner(TrtRunner(loaded, name=name), record.profile, close)

    def resident(self, engine: Path) -> DeviceEngine:
        """A built engine for inputs on the device, run by the runtime's own API.

        Polygraphy can use only one of the two runtimes in a process; with this, both can be timed side by side.

        Raises:
            EngineMismatch, EngineUnavailable, ObjectDamaged: as for `runner`.
            EngineFailed: the runtime refused to load it.
        """
        data, record = self._read(engine)
        trt = importlib.import_module(self.module)
        loaded = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(data)
        if loaded is None:
            raise EngineFailed(
                f"{self.module} does not load the engine", where=engine.name, fix="its own words are on stderr"
            )
        return DeviceEngine(trt, loaded, *self._contexts(loaded), record.profile)

    def _contexts(self, engine: Any) -> tuple[Callable[[], Any], Callable[[], None]]:
        """A function that creates execution contexts, and one to call at the end."""
        return engine.create_execution_context, lambda: None

    def unserved(self) -> str | None:
        """Why the runtime loads no engine at all on this machine's GPU; usually None."""
        return None

    def _read(self, engine: Path) -> tuple[bytes, EngineRecord]:
        """The bytes and the record of an engine that this machine may deserialize.

        Raises:
            EngineUnavailable: this runtime loads no engine at all here.
            EngineMismatch, ObjectDamaged: see `read_engine`.
        """
        reason = self.unserved()
        if reason is not None:
            raise EngineUnavailable(reason, where=engine.name, fix="run another target")
        return read_engine(engine, self._here())

    def _loaded(self, engine: Any) -> tuple[Any, Callable[[], None]]:
        """What Polygraphy's runner is created from, and a function to call before it is closed."""
        return engine, lambda: None

    def _here(self) -> Platform:
        """The platform of this machine."""
        return Platform(
            runtime=self.module, version=package_version(self.module), capability=gpu_capability(), gpu=gpu_name()
        )

    def platform(self, target: str) -> Platform:
        del target
        return self._here()

    def why_no_fp8(self, target: str) -> str | None:
        capability = self.platform(target).capability
        if capability is None or int(capability.removeprefix("sm")) >= _FIRST_FP8_SM:
            return None
        return f"{capability} has no FP8 arithmetic, GPUs have it from sm{_FIRST_FP8_SM} on"


class TensorRt(_Polygraphy):
    """Target `tensorrt`: full TensorRT, for this machine's GPU."""

    name = "tensorrt"
    times_kernels = True
    tells = True
    module = "tensorrt"

    def about(self, target: str) -> str:
        del target
        return "TensorRT, for this machine's GPU"

    def why_not_build(self, target: str) -> str | None:
        del target
        return self._missing() or (None if gpu_count() else NO_GPU)

    why_not_run = why_not_build

    def environment(self) -> dict[str, str]:
        """The variable with the folder of timing caches."""
        folder = cache_folder()
        return {} if folder is None else {FOLDER_VARIABLE: str(folder)}

    def made(self, engine: Path) -> Made | None:
        """As the inspector tells it, which needs the engine loaded: on the GPU that it was built for."""
        trt = importlib.import_module(self.module)
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        loaded = runtime.deserialize_cuda_engine(engine.read_bytes())
        if loaded is None:
            return None
        report = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        with suppress(NotDetailed):
            return made_of(read_layers(str(report)))
        return None

    def _timings(self) -> Path | None:
        return kept_file("timings", gpu_name() or NO_GPU, package_version(self.module))

    def _config(self, target: str, shapes: Any, cache: str | None) -> Any:
        from polygraphy.backend.trt import CreateConfig

        del target
        return CreateConfig(profiles=[shapes], builder_optimization_level=BUILDER_LEVEL, load_timing_cache=cache)


class TensorRtRtx(_Polygraphy):
    """Targets `trtrtx-sm<NN>` (ahead of time, no GPU needed) and `trtrtx` (this machine's GPU)."""

    name = "trtrtx"
    times_kernels = False
    tells = True
    module = "tensorrt_rtx"

    def about(self, target: str) -> str:
        gpu = "this machine's GPU" if target == self.name else f"GPUs of {target.removeprefix(f'{self.name}-').upper()}"
        return f"TensorRT for RTX, for {gpu}"

    def targets(self) -> tuple[str, ...]:
        return (self.name, *(f"{self.name}-{sm}" for sm in _RTX_SM))

    def why_not_build(self, target: str) -> str | None:
        """Any machine can build for a named GPU; `trtrtx` needs a GPU that could run the engine."""
        return self._missing() or (self._no_gpu() if target == self.name else None)

    def why_not_run(self, target: str) -> str | None:
        reason = self._missing() or self._no_gpu()
        if reason is not None:
            return reason
        here = gpu_capability()
        return None if target in (self.name, f"{self.name}-{here}") else f"this machine's GPU is {here}"

    def environment(self) -> dict[str, str]:
        return {"POLYGRAPHY_USE_TENSORRT_RTX": "1"}

    def built_for(self, target: str) -> str:
        return self.device() if target == self.name else target

    def platform(self, target: str) -> Platform:
        """Any GPU of the compute capability: kernels are compiled for it, and specialised where they run."""
        return self._here().model_copy(update={"capability": _named(target) or gpu_capability(), "gpu": None})

    def made(self, engine: Path) -> Made | None:
        return read_made(engine)

    def unserved(self) -> str | None:
        here = gpu_capability()
        if here is None or here in _RTX_SM:
            return None
        listed = ", ".join(_dotted(capability) for capability in _RTX_SM)
        why = f"tensorrt-rtx serves no compute capability {_dotted(here)}, only {listed}"
        return f"{why}: where that was tried (9.0), it builds engines and refuses to load them"

    def _no_gpu(self) -> str | None:
        """Why this machine has no usable GPU; None if it has."""
        return self.unserved() if gpu_count() else NO_GPU

    def _contexts(self, engine: Any) -> tuple[Callable[[], Any], Callable[[], None]]:
        kernels = self._kernels()
        return lambda: kernels.context(engine), kernels.keep

    def _loaded(self, engine: Any) -> tuple[Any, Callable[[], None]]:
        kernels = self._kernels()
        return lambda: kernels.context(engine()), kernels.keep

    def _kernels(self) -> KernelCache:
        return KernelCache(kept_file("kernels", gpu_name() or NO_GPU, package_version(self.module)))

    def _config(self, target: str, shapes: Any, cache: str | None) -> Any:
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        del cache  # kernels are chosen at run time, so there are no timings
        capability = _named(target)
        if capability is None:
            return CreateConfigRTX(profiles=[shapes], use_gpu=True)
        major, minor = (int(number) for number in _dotted(capability).split("."))
        return CreateConfigRTX(profiles=[shapes], compute_capabilities=[(major, minor)])


def _dotted(capability: str) -> str:
    """`12.0` for `sm120`."""
    digits = capability.removeprefix("sm")
    return f"{digits[:-1]}.{digits[-1]}"


def _named(target: str) -> str | None:
    """The compute capability in a target's name, or None."""
    match = re.fullmatch(r"trtrtx-(sm\d+)", target)
    return match[1] if match else None


def _choose_flavour(*, rtx: bool) -> None:
    """Make Polygraphy use TensorRT or TensorRT for RTX; it can be chosen once per process.

    Raises:
        EngineConflict: this process uses the other one already.
    """
    from polygraphy import config

    if "polygraphy.backend.trt" in sys.modules and rtx != config.USE_TENSORRT_RTX:
        raise EngineConflict(
            "TensorRT and TensorRT for RTX cannot run in one process", fix="run their targets one after the other"
        )
    config.USE_TENSORRT_RTX = rtx
