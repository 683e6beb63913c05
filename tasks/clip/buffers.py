"""Values of buffers that models create themselves: checkpoints do not have them, nor do models on the meta device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import ExportError

if TYPE_CHECKING:
    from torch import nn


def buffer_values(model: nn.Module, name: str) -> NDArray[Any]:
    """The values of a buffer of `model`: from its module's `constants()` (by the buffer's own name), or indices.

    Raises:
        ExportError: the buffer is neither.
    """
    owner, _, own = name.rpartition(".")
    module: Any = model.get_submodule(owner)
    if hasattr(module, "constants"):
        values: NDArray[Any] = module.constants()[own]
        return values
    return index_buffer(name, tuple(model.get_buffer(name).shape))


def fill_buffers(model: nn.Module) -> None:
    """Give every buffer of `model` its value, on the CPU."""
    import torch

    for name, buffer in list(model.named_buffers()):
        owner, _, own = name.rpartition(".")
        values = torch.from_numpy(buffer_values(model, name).copy())
        setattr(model.get_submodule(owner), own, values.to(buffer.dtype))


def index_buffer(name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The buffer that the model itself would have made: position ids count from zero, token types are zero.

    Raises:
        ExportError: the buffer has another name.
    """
    if name.endswith("position_ids"):
        return np.arange(shape[-1], dtype=np.int64).reshape(shape)
    if name.endswith("token_type_ids"):
        return np.zeros(shape, np.int64)
    raise ExportError(f"buffer {name} has no known value", fix="teach tasks/clip/buffers.py about it")
