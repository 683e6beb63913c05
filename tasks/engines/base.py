"""What an engine backend must do: build an ONNX file for a target, and run what it built."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from pydantic import Field, JsonValue, model_validator

from artifacts.errors import ProfileError
from artifacts.models import Strict
from artifacts.prefect_forms import FormModel
from tasks.device.gpu import gpu_name
from tasks.device.gpu_state import GpuState, read_gpu_state

NO_GPU = "this machine has no CUDA GPU"

_IN_FORMS: dict[str, JsonValue] = {"minimum": 1, "maximum": 4096}


class BatchProfile(FormModel):
    """The batch sizes of an optimization profile: smallest, the one to tune for, largest."""

    # The schema's bounds are for forms: in Python the order of the three is checked, with an error of its own.
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
    """What an engine needs to run, or what a machine has: the runtime's distribution and version, and the GPU.

    In what an engine needs, None means that any will do.
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

    What has a body here is how it is for most of them.
    """

    name: str
    times_kernels: bool
    """Whether its builder chooses kernels by timing them on the device, which is a benchmark."""

    def accepts(self, target: str) -> bool:
        """Whether `target` is one of this backend's."""
        return target in self.targets()

    def targets(self) -> tuple[str, ...]:
        """The targets, for messages and forms."""
        return (self.name,)

    def about(self, target: str) -> str:
        """What runs an engine of `target`, and on what, in words."""
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
        """Why a GPU of `target` has no FP8 arithmetic; None when it has, or when FP8 is openly emulated."""
        del target
        return None

    def environment(self) -> dict[str, str]:
        """Environment variables that a building or running process needs from its start."""
        return {}

    def build(self, onnx: Path, engine: Path, target: str, profile: BatchProfile) -> None:
        """Build in this process; called in a child process (see `tasks.engines.child`).

        Raises:
            BuildError: the builder refused; the message carries its words.
        """
        ...

    def runner(self, engine: Path, name: str) -> Any:
        """A runner for a built engine (see `tasks.engines.checked`).

        Raises:
            EngineMismatch: it is native code that was not built for this machine; it was not deserialized.
            ObjectDamaged: its bytes are not those that were built.
        """
        ...

    def platform(self, target: str) -> Platform:
        """What an engine of `target` that is built now needs to run."""
        ...

    def state(self) -> GpuState | None:
        """What the device is doing at this moment; None where nothing can tell."""
        return None

    def device(self) -> str:
        """What an engine runs on here; part of the cache key of everything that is measured."""
        ...

    def built_for(self, target: str) -> str:
        """The device that an engine of `target` is good for; part of the cache key of the build."""
        del target
        return self.device()

    def emulation(self, precision: str) -> str | None:
        """How `precision` is emulated where the device has no arithmetic for it, so that its latency says nothing
        about the precision; None where it is native."""
        del precision
        return None


class GpuBackend(Backend, Protocol):
    """A runtime of this machine's GPU."""

    def state(self) -> GpuState | None:
        return read_gpu_state()

    def device(self) -> str:
        return gpu_name() or NO_GPU
