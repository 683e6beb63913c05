"""The device's turn of builders: one that times kernels must not be disturbed, nor disturb a benchmark."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from tasks.device.device_turn import device_key
from tasks.device.shared_turn import shared_turn
from tasks.engines import backend_for


def builder_turn(target: str) -> AbstractContextManager[None]:
    """Take the device's lock, shared with this run's other builders, if the builder times kernels."""
    backend = backend_for(target)
    return shared_turn(device_key(backend.device())) if backend.times_kernels else nullcontext()
