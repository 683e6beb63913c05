"""Running an engine with its runtime's own API on tensors on the device, to time the engine without copies.

TensorRT and TensorRT for RTX have the same API; `runtime` is either module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from artifacts.errors import BatchOutsideProfile, EngineFailed, WrongInput
from tasks.engines.base import BatchProfile

if TYPE_CHECKING:
    import torch

_TYPES = {"HALF": "float16", "FLOAT": "float32", "INT64": "int64", "INT32": "int32", "BOOL": "bool"}
"""The dtypes of our encoders' inputs and outputs, by their names in TensorRT and PyTorch."""


class DeviceEngine:
    """A deserialized engine with one output; `make_context` creates execution contexts."""

    def __init__(
        self,
        runtime: Any,
        engine: Any,
        make_context: Callable[[], Any],
        before_close: Callable[[], None],
        profile: BatchProfile,
    ) -> None:
        self.profile = profile
        self._runtime = runtime
        self._engine = engine
        self._make_context = make_context
        self._before_close = before_close
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._output = next(name for name in names if engine.get_tensor_mode(name).name == "OUTPUT")
        self._inputs = [name for name in names if engine.get_tensor_mode(name).name == "INPUT"]

    def bind(self, inputs: Mapping[str, torch.Tensor]) -> Bound:
        """Create a context for inputs that stay at their addresses on the device.

        Each set of inputs needs its own: a captured CUDA graph is valid only while its context is not changed.

        Raises:
            WrongInput: names, dtypes or layout differ from the engine's.
            BatchOutsideProfile: the engine was not built for this batch size.
            EngineFailed: the runtime has no memory for it.
        """
        import torch

        self._check(inputs)
        context = self._make_context()
        if context is None:
            raise EngineFailed(
                "the runtime makes no execution context", fix="free memory of the device, or ask for less"
            )
        for name, tensor in inputs.items():
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise WrongInput(f"{name} is {list(tensor.shape)}", expected="the shape that the engine was built for")
            context.set_tensor_address(name, tensor.data_ptr())
        place = next(iter(inputs.values())).device
        shape = tuple(context.get_tensor_shape(self._output))
        output = torch.empty(shape, dtype=self._dtype(self._output), device=place)
        context.set_tensor_address(self._output, output.data_ptr())
        return Bound(context, tuple(inputs.values()), output)

    def _check(self, inputs: Mapping[str, torch.Tensor]) -> None:
        if inputs.keys() != set(self._inputs):
            raise WrongInput(f"the inputs are {', '.join(inputs)}", expected=", ".join(self._inputs))
        for name, tensor in inputs.items():
            if tensor.dtype != self._dtype(name) or not tensor.is_contiguous():
                layout = "" if tensor.is_contiguous() else ", not contiguous"
                raise WrongInput(f"{name} is {tensor.dtype}{layout}", expected=f"contiguous {self._dtype(name)}")
            if not self.profile.min <= len(tensor) <= self.profile.max:
                raise BatchOutsideProfile(
                    f"a batch of {len(tensor)}", expected=f"{self.profile.min} to {self.profile.max}"
                )

    def _dtype(self, name: str) -> torch.dtype:
        import torch

        dtype: torch.dtype = getattr(torch, _TYPES[self._engine.get_tensor_dtype(name).name])
        return dtype

    def layers(self, bound: Bound) -> str:
        """The inspector's report on every layer at the bound shapes, as JSON (see `tasks.engines.inspector`)."""
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = bound.context
        return str(inspector.get_engine_information(self._runtime.LayerInformationFormat.JSON))

    def layer_times(self, bound: Bound, stream: int, runs: int) -> dict[str, float]:
        """Milliseconds of each layer by its name, the mean over `runs`; the context keeps reporting from now on.

        Empty if the runtime does not report layers.
        """
        spent: dict[str, float] = {}

        class Times(self._runtime.IProfiler):  # type: ignore[misc, name-defined]
            def report_layer_time(self, layer_name: str, ms: float) -> None:
                spent[layer_name] = spent.get(layer_name, 0.0) + ms / runs

        profiler = Times()
        bound.context.profiler = profiler
        for _ in range(runs):
            bound.enqueue(stream)
        return spent

    def close(self) -> None:
        """Write the runtime's caches."""
        self._before_close()


@dataclass(frozen=True)
class Bound:
    """A context whose inputs and output are bound to these tensors' addresses."""

    context: Any
    inputs: tuple[torch.Tensor, ...]
    output: torch.Tensor

    def enqueue(self, stream: int) -> torch.Tensor:
        """Run once on a CUDA stream (its handle), asynchronously; return the output's tensor.

        Raises:
            EngineFailed: the runtime refused.
        """
        if not self.context.execute_async_v3(stream):
            raise EngineFailed("the runtime refuses to run the engine", fix="its own words are on stderr")
        return self.output
