"""What all steps share: cached Prefect tasks keyed by content, and the measurement of their time and memory."""

from __future__ import annotations

import builtins
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
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
    """The base of all results of steps: plain values and references, never paths.

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
        """The objects that this output refers to."""
        return [value for _, value in self if isinstance(value, ArtifactRef)]


class Meter:
    """Measures wall time and peak memory of a block."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stats: StepStats | None = None
        self._device = "cpu"
        self._samples = 0
        self._fed_s = self._waited_s = 0.0

    def on(self, device: str) -> None:
        """Record that `device` computes; by default it is the CPU."""
        self._device = device

    def fed(self, items: Iterator[_Item], samples: Callable[[_Item], int]) -> Iterator[_Item]:
        """The same items, while measuring how fast they are processed and how long they are waited for.

        `samples` gives the number of samples in an item.
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
    """Measure a block of this process; the kernel's counter of peak memory is reset first if possible."""
    # proc(5): writing 5 resets VmHWM. If that fails, the peak of the whole process is an upper bound.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    meter = Meter()
    try:
        yield meter
    finally:
        meter.stop()


def identity(value: Any) -> Any:
    """The JSON form of a step's input for its cache key: contents, never paths.

    A model with a `cache_identity` method gives it itself; an `ArtifactRef` is its digest.

    Raises:
        TypeError: the value has no such form; else the step would silently run uncached.
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
    """The cache key of a step: its name and version, the class of its result, the store, the packages that matter, and
    the inputs' contents.

    Results are kept with the active store. If several runs need the same step at once, one computes it and the others
    wait for its result.
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
            task_ctx.result_store.result_storage = self.results()
        return step_key(self.step, self.version, self.packages, inputs, self.result)

    def results(self) -> StepResults:
        """Where the step's results are kept."""
        return StepResults(step=self.step, version=self.version, result=self.result)


def step_key(step: str, version: int, packages: tuple[str, ...], inputs: dict[str, Any], result: str = "") -> str:
    """A digest of everything that a step's result depends on.

    Args:
        step: The step's name.
        version: The version of the step's work.
        packages: Names of the packages that the work depends on.
        inputs: The step's inputs, by parameter.
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
    """A Prefect task whose result is stored as JSON under a key of contents. Raise `version` when its work changes."""

    def decorate(function: Callable[..., Any]) -> Any:
        result = _result_path(function)
        STEPS[name] = (version, packages, result)
        policy = StepCache(step=name, version=version, packages=packages, result=result)
        return task(name=name, cache_policy=policy, persist_result=True, result_serializer=StepSerializer())(function)

    return decorate


def kept(step: Any, arguments: Sequence[Any]) -> StepOutput | None:
    """What a cached step returned for these arguments before, in the active store; None where it is not in the cache.

    Everybody who asks whether a step is cached asks here; no server is needed.
    """
    bound = inspect.signature(step.fn).bind(*arguments)
    bound.apply_defaults()
    policy: StepCache = step.cache_policy
    return policy.results().find(policy.compute_key(None, dict(bound.arguments), {}))


def _result_path(function: Callable[..., Any]) -> str:
    """The dotted path of the class in a step function's return annotation.

    Raises:
        TypeError: there is no annotation, or it is not a plain name that the module knows.
    """
    said = function.__annotations__.get("return")
    found = function.__globals__.get(said, getattr(builtins, said, None)) if isinstance(said, str) else said
    if not isinstance(found, type):
        raise TypeError(f"step {function.__qualname__} must name the class of its result, not {said!r}")
    return f"{found.__module__}.{found.__qualname__}"
