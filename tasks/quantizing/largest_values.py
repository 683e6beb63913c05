"""The largest magnitude of every intermediate result of a PyTorch model, by module and operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def largest_magnitudes(model: nn.Module, run: Callable[[], object]) -> dict[tuple[str, str], float]:
    """(module, operation) -> largest absolute value that it gave while `run` used the model; NaN is infinite.

    Operations are ATen's, such as `addmm` or `softmax`; those that only look at memory differently are left out.
    """
    recorder = _Recorder()
    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(recorder.enter(name)))
        hooks.append(module.register_forward_hook(recorder.leave))
    try:
        with torch.no_grad(), recorder:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return recorder.largest


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest: dict[tuple[str, str], float] = {}
        self._modules: list[str] = []

    def enter(self, name: str) -> Any:
        return lambda *_: self._modules.append(name)

    def leave(self, *_: Any) -> None:
        self._modules.pop()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        outputs = result if isinstance(result, tuple | list) else (result,)
        seen = {value.untyped_storage().data_ptr() for value in args if isinstance(value, Tensor)}
        for value in outputs:
            if isinstance(value, Tensor) and value.is_floating_point() and _made(value, seen):
                self._note(function, value)
        return result

    def _note(self, function: Any, value: Tensor) -> None:
        key = (self._modules[-1] if self._modules else "", function.overloadpacket.__name__)
        low, high = (float(bound) for bound in torch.aminmax(value))
        largest = math.inf if math.isnan(low) else max(-low, high)  # aminmax passes NaN on
        self.largest[key] = max(largest, self.largest.get(key, 0.0))


def _made(value: Tensor, seen: set[int]) -> bool:
    """Whether the operation made new values, and did not just view those of its inputs."""
    return value.numel() > 0 and value.untyped_storage().data_ptr() not in seen
