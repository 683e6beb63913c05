"""What all steps share: cached Prefect tasks keyed by content, and the measure of their time and memory."""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from prefect import task
from prefect.cache_policies import CachePolicy
from prefect.locking.protocol import LockManager
from pydantic import BaseModel, model_validator

from artifacts.models import Frozen
from artifacts.refs import ArtifactRef, digest_json
from artifacts.store.store import active_store
from tasks.runs.step_cost import StepStats, peak_rss_mb
from tasks.runs.step_lock import StepLock
from tasks.runs.step_results import StepResults, StepSerializer
from tasks.runs.versions import package_version

_Item = TypeVar("_Item")


class StepOutput(Frozen):
    """Base of what steps return: plain values and references, never paths.

    Validation checks that every referenced object is in the active store with the right bytes. Prefect validates a
    cached result when it reads it back, so a record whose object is missing or damaged is a cache miss.
    """

    stats: StepStats

    @model_validator(mode="after")
    def _objects_exist(self) -> StepOutput:
        store = active_store()
        for ref in self.references():
            store.check(ref)
        return self

    def references(self) -> list[ArtifactRef]:
        """The objects this output refers to."""
        return [value for _, value in self if isinstance(value, ArtifactRef)]


class Meter:
    """Wall time and peak memory of a block; `stats` is there once the block has ended."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stats: StepStats | None = None
        self._device = "cpu"
        self._samples = 0
        self._fed_s = self._waited_s = 0.0

    def on(self, device: str) -> None:
        """Say that `device` computes, and not the processor."""
        self._device = device

    def fed(self, items: Iterator[_Item], samples: Callable[[_Item], int]) -> Iterator[_Item]:
        """The same items, while it is measured how fast they are worked on and for how long they are waited for.

        `samples` says how many an item has.
        """
        begun = time.perf_counter()
        while True:
            asked = time.perf_counter()
            item = next(items, None)
            now = time.perf_counter()
            self._waited_s += now - asked
            self._fed_s += now - begun
            begun = now
            if item is None:
                return
            self._samples += samples(item)
            yield item

    @property
    def stats(self) -> StepStats:
        """The stats so far, or the final ones after the block."""
        return self._stats or StepStats(
            wall_s=round(time.perf_counter() - self._start, 4),
            peak_rss_mb=round(peak_rss_mb(), 1),
            device=self._device,
            samples_per_s=round(self._samples / self._fed_s, 3) if self._samples else None,
            waited=round(self._waited_s / self._fed_s, 4) if self._samples else None,
        )

    def stop(self) -> None:
        self._stats = self.stats


@contextmanager
def measured() -> Iterator[Meter]:
    """Measure a block of this process; the kernel's peak counter is reset first where it allows that."""
    # proc(5): writing 5 resets VmHWM. Where that fails, the peak of the whole process so far is an upper bound.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    meter = Meter()
    try:
        yield meter
    finally:
        meter.stop()


def identity(value: Any) -> Any:
    """The JSON form of a step input that its cache key is made of: contents, never paths.

    A model with a `cache_identity` method speaks for itself; an `ArtifactRef` is its digest.

    Raises:
        TypeError: a value that has no such form; it would silently run uncached.
    """
    if isinstance(value, ArtifactRef):
        return value.digest
    if hasattr(value, "cache_identity"):
        return identity(value.cache_identity())
    if isinstance(value, StepOutput):
        return {name: identity(field) for name, field in value if name != "stats"}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    if isinstance(value, dict):
        return {str(key): identity(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} cannot be part of a cache key")


@dataclass
class StepCache(CachePolicy):
    """Cache key: step name and version, the class of the result, the store, the packages that matter, and the inputs'
    contents.

    Results are kept with the active store. Of runs that need the same step at once, one computes it and the others wait
    for its result.
    """

    isolation_level: Literal["SERIALIZABLE"] = "SERIALIZABLE"
    lock_manager: LockManager = field(default_factory=StepLock)
    step: str = ""
    version: int = 0
    packages: tuple[str, ...] = ()
    result: str = ""

    def compute_key(self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: Any, **_: Any) -> str:
        del flow_parameters
        if task_ctx is not None:  # the task's own; a storage among its options would have to be known to the server
            storage = StepResults(step=self.step, version=self.version, result=self.result)
            task_ctx.result_store.result_storage = storage
        return step_key(self.step, self.version, self.packages, inputs, self.result)


def step_key(step: str, version: int, packages: tuple[str, ...], inputs: dict[str, Any], result: str = "") -> str:
    """A digest of all that decides what a step makes.

    Args:
        step: The step's name.
        version: Of the step's work.
        packages: Names of the packages that the work depends on.
        inputs: What the step is given, by parameter.
        result: The dotted path of the class that the step returns, by which what was kept is read.
    """
    return digest_json(
        {
            "step": step,
            "version": version,
            "result": result,
            "store": active_store().id,
            "packages": {name: package_version(name) for name in packages},
            "inputs": {name: identity(value) for name, value in inputs.items()},
        }
    )


STEPS: dict[str, tuple[int, tuple[str, ...], str]] = {}
"""Every cached step: its version, the packages that it depends on, and the dotted path of its result's class."""


def cached_step(name: str, version: int, packages: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Any]:
    """A Prefect task whose result is kept as JSON and found again by content. Raise `version` when its work changes."""

    def decorate(function: Callable[..., Any]) -> Any:
        result = _result_path(function)
        STEPS[name] = (version, packages, result)
        policy = StepCache(step=name, version=version, packages=packages, result=result)
        return task(name=name, cache_policy=policy, persist_result=True, result_serializer=StepSerializer())(function)

    return decorate


def _result_path(function: Callable[..., Any]) -> str:
    """The dotted path of the class that a step's function says it returns.

    Raises:
        TypeError: it says nothing, or something that its module does not know by a plain name.
    """
    said = function.__annotations__.get("return")
    found = function.__globals__.get(said, getattr(builtins, said, None)) if isinstance(said, str) else said
    if not isinstance(found, type):
        raise TypeError(f"step {function.__qualname__} must name the class of its result, not {said!r}")
    return f"{found.__module__}.{found.__qualname__}"
