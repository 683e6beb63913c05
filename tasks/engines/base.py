"""The interface of engine backends: build an ONNX file for a target, and run the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from pydantic import Field, JsonValue, model_validator

from artifacts.errors import ProfileError
from artifacts.models import Strict
from artifacts.prefect_forms import FormModel
from tasks.device.gpu import gpu_name
from tasks.device.gpu_state import GpuState, read_gpu_state
from tasks.engines.plan import Made

NO_GPU = "this machine has no CUDA GPU"

_IN_FORMS: dict[str, JsonValue] = {"minimum": 1, "maximum": 4096}


class BatchProfile(FormModel):
    """The batch sizes of an optimization profile: the smallest, the one to optimize for, the largest."""

    # The schema's bounds are for forms; in Python the validator below checks the order, with its own error.
    min: int = Field(default=1, title="Smallest batch", json_schema_extra=_IN_FORMS)
    opt: int = Field(default=8, title="Batch to tune for", json_schema_extra=_IN_FORMS)
    max: int = Field(default=32, title="Largest batch", json_schema_extra=_IN_FORMS)

    @model_validator(mode="after")
    def _ordered(self) -> BatchProfile:
        if not 1 <= self.min <= self.opt <= self.max:
            raise ProfileError(
                f"the batch profile is min {self.min}, opt {self.opt}, max {self.max}",
                where="profile",
                expected="1 <= min <= opt <= max",
                fix="correct `profile` in the parameters",
            )
        return self


class Platform(Strict):
    """What an engine needs, or what a machine has: the runtime's distribution and version, and the GPU.

    For an engine, None means that any value will do.
    """

    runtime: str
    version: str
    capability: str | None = None
    """Compute capability, such as `sm89`."""
    gpu: str | None = None

    def describe(self) -> str:
        """The platform in words."""
        return ", ".join(part for part in (f"{self.runtime} {self.version}", self.capability, self.gpu) if part)


class Backend(Protocol):
    """One runtime. Backends are stateless; a target is a string such as `trtrtx-sm89`.

    Methods with a body are the defaults.
    """

    name: str
    times_kernels: bool
    """Whether its builder chooses kernels by timing them on the device, so that it must not be disturbed."""
    tells: bool = False
    """Whether its engines tell what the builder made of the graph, see `made`."""

    def accepts(self, target: str) -> bool:
        """Whether `target` is one of this backend's."""
        return target in self.targets()

    def targets(self) -> tuple[str, ...]:
        """The backend's targets, for messages and forms."""
        return (self.name,)

    def about(self, target: str) -> str:
        """A description of `target` in words: the runtime and the hardware."""
        ...

    def why_not_build(self, target: str) -> str | None:
        """Why this installation cannot build for `target`; None when it can."""
        del target
        return None

    def why_not_run(self, target: str) -> str | None:
        """Why this machine cannot run an engine of `target`; None when it can."""
        del target
        return None

    def why_no_fp8(self, target: str) -> str | None:
        """Why FP8 cannot run on a GPU of `target`; None if it can, or is emulated and reported as such."""
        del target
        return None

    def environment(self) -> dict[str, str]:
        """Environment variables that a process that builds or runs engines needs from its start."""
        return {}

    def build(self, onnx: Path, engine: Path, target: str, profile: BatchProfile) -> None:
        """Build in this process; called in a child process (see `tasks.engines.child`).

        Raises:
            BuildError: the builder refused; the message quotes it.
        """
        ...

    def made(self, engine: Path) -> Made | None:
        """What the builder made of the graph, read from a built engine; None if its engines do not tell."""
        del engine
        return None

    def runner(self, engine: Path, name: str) -> Any:
        """A runner for a built engine (see `tasks.engines.checked`).

        Raises:
            EngineMismatch: it is native code that was not built for this machine; it was not deserialized.
            ObjectDamaged: its bytes have changed since it was built.
        """
        ...

    def platform(self, target: str) -> Platform:
        """The platform that an engine of `target` needs if it is built now."""
        ...

    def state(self) -> GpuState | None:
        """The state of the device at this moment; None if it is not known."""
        return None

    def device(self) -> str:
        """The device that engines run on here; part of the cache key of everything that is measured."""
        ...

    def built_for(self, target: str) -> str:
        """The device that an engine of `target` is built for; part of the cache key of the build."""
        del target
        return self.device()

    def emulation(self, precision: str) -> str | None:
        """How `precision` is emulated if the device has no arithmetic for it, so that latency says nothing about the
        precision; None if it is native."""
        del precision
        return None


class GpuBackend(Backend, Protocol):
    """A runtime for this machine's GPU."""

    def state(self) -> GpuState | None:
        return read_gpu_state()

    def device(self) -> str:
        return gpu_name() or NO_GPU
