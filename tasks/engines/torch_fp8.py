"""PyTorch's FP8 products, compiled ahead of time into an AOTInductor package for this machine's GPU and PyTorch.

It is for GPUs that TensorRT does not support, or machines without TensorRT. The scales are those in the ONNX file. A
package with our own Triton kernels (Hopper and later) calls back into Python for them, so it needs clipsmith installed,
and Triton compiles them on first use.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import BuildError
from tasks.device.gpu import gpu_capability, gpu_name
from tasks.engines.base import BatchProfile, GpuBackend, Platform
from tasks.engines.checked import Form, check_inputs
from tasks.engines.record import read_engine
from tasks.runs.versions import package_version

_OLDEST = "2.11"
_DEVICE = "cuda"


class TorchFp8(GpuBackend):
    """Target `torch-fp8`; GPUs without FP8 are not supported at all.

    FP16 engines are compiled in the same way, for comparison.
    """

    name = "torch-fp8"
    times_kernels = True
    """True: Inductor chooses the tiles of its kernels by timing them."""

    def about(self, target: str) -> str:
        del target
        return "PyTorch with FP8 kernels of ours, for this machine's GPU"

    def why_not_build(self, target: str) -> str | None:
        from tasks.torch_fp8.cuda_toolkit import why_no_toolkit

        return self.why_not_run(target) or why_no_toolkit()

    def why_not_run(self, target: str) -> str | None:
        del target
        if importlib.util.find_spec("torch") is None:
            return "the package torch is not installed"
        if gpu_name() is None:  # faster than asking PyTorch, which takes seconds to import
            return f"no CUDA device is visible to PyTorch {package_version('torch')}"
        import torch

        if torch.__version__ < _OLDEST:
            return f"PyTorch {torch.__version__} is too old, it needs {_OLDEST} or newer"
        if not torch.cuda.is_available():
            return f"no CUDA device is visible to PyTorch {torch.__version__}"
        from tasks.torch_fp8.aot import why_no_fp8

        return why_no_fp8()

    def environment(self) -> dict[str, str]:
        """Variables with which PyTorch and the linker find CUDA."""
        from tasks.torch_fp8.cuda_toolkit import cuda_environment

        return cuda_environment()

    def build(self, onnx: Path, engine: Path, target: str, profile: BatchProfile) -> None:
        """Compile, link and write one package.

        Raises:
            BuildError: the graph has an unknown operator, or PyTorch or the C++ compiler refused it.
        """
        from tasks.torch_fp8.aot import build_package

        try:
            build_package(onnx, engine, (profile.min, profile.opt, profile.max), _DEVICE)
        except Exception as error:
            raise BuildError(
                f"PyTorch cannot compile {onnx.name}: {type(error).__name__}: {error}",
                where=target,
                fix="see the builder's log",
            ) from error

    def runner(self, engine: Path, name: str) -> Any:
        data, record = read_engine(engine, self._here())
        return PackageRunner(data, name, record.profile, _DEVICE)

    def platform(self, target: str) -> Platform:
        """Any GPU of the compute capability: kernels are compiled for it."""
        del target
        return self._here().model_copy(update={"gpu": None})

    def _here(self) -> Platform:
        return Platform(runtime=self.name, version=_version(), capability=gpu_capability(), gpu=gpu_name())

    def built_for(self, target: str) -> str:
        """The device and PyTorch's version, as a package works only with that version."""
        del target
        return f"{self.device()}, {_version()}"


class PackageRunner:
    """A runner for packages, with the interface of `CheckedRunner`, without Polygraphy."""

    def __init__(self, data: bytes, name: str, profile: BatchProfile, device: str) -> None:
        """`data` are the verified bytes of a package; they are loaded, not the file, which may have changed."""
        self.name = name
        self._data = data
        self._profile = profile
        self._device = device
        self._package: Any = None
        self._forms: dict[str, Form] = {}
        self._output = ""
        self._seconds = 0.0

    def __enter__(self) -> PackageRunner:
        from tasks.torch_fp8.aot import ports
        from tasks.torch_fp8.compiled import load_package

        with tempfile.NamedTemporaryFile(prefix="clipsmith-package-", suffix=".pt2") as file:
            file.write(self._data)
            file.flush()
            self._package = load_package(Path(file.name))
        inputs, output = ports(self._package)
        self._forms = {port.name: (np.dtype(port.dtype), (None, *port.shape)) for port in inputs}
        self._output = output.name
        return self

    def __exit__(self, *error: Any) -> None:
        self._package = None

    @property
    def forms(self) -> Mapping[str, Form]:
        """Dtypes and shapes of the inputs by name; available once the runner is entered."""
        return self._forms

    @property
    def smallest(self) -> int:
        """The smallest batch size that it takes."""
        return self._profile.min

    def infer(self, feed: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """The output for one batch.

        Raises:
            WrongInput: names, types or shapes differ from the engine's.
            BatchOutsideProfile: the engine was not built for this batch size.
        """
        import torch

        check_inputs(feed, self._forms, self._profile, self.name)
        start = time.perf_counter()
        with torch.inference_mode():
            inputs = [torch.from_numpy(feed[name]).to(self._device) for name in self._forms]
            output = self._package(*inputs).cpu()  # waits for the device
        self._seconds = time.perf_counter() - start
        return {self._output: output.numpy()}

    def last_inference_time(self) -> float:
        """Seconds that the last batch took, including copies to and from the device, as in Polygraphy for TensorRT."""
        return self._seconds


def _version() -> str:
    """PyTorch's version and that of its CUDA: packages depend on both."""
    import torch

    return f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}"
