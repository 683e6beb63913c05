"""The largest magnitude of every intermediate result of a PyTorch model, by module and operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def largest_magnitudes(model: nn.Module, run: Callable[[], object]) -> dict[tuple[str, str], float]:
    """(module, operation) -> the largest absolute value of its results while `run` used the model; NaN is infinity.

    Operations are ATen's, such as `addmm` or `softmax`; those that only make views are left out.
    """
    recorder = _Recorder()
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.enter_context(module.register_forward_pre_hook(recorder.enter(name)))
            hooks.enter_context(module.register_forward_hook(recorder.leave))
        with torch.no_grad(), recorder:
            run()
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
        key = (self._modules[-1] if self._modules else "", function.overloadpacket.__name__)
        for value in outputs:
            if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
                continue
            if value.untyped_storage().data_ptr() not in seen:  # if seen, it is only a view of an input
                low, high = (float(bound) for bound in torch.aminmax(value))
                largest = math.inf if math.isnan(low) else max(-low, high)  # aminmax passes NaN on
                self.largest[key] = max(largest, self.largest.get(key, 0.0))
        return result
