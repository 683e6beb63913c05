"""Step 6: ONNX -> engine, one per encoder, precision and target, each built in a child process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from artifacts.manifest import Encoder, Precision
from artifacts.refs import ArtifactRef
from artifacts.store.store import active_store
from tasks.engines import BatchProfile, backend_for
from tasks.engines.available import require_target
from tasks.engines.builder_turn import builder_turn
from tasks.engines.child import Job, build_in_child
from tasks.engines.plan import Made
from tasks.engines.record import is_record, write_record
from tasks.file_names import BUILD_LOG, engine_name, onnx_name
from tasks.pipeline.kept import keep
from tasks.runs.steps import StepOutput, cached_step

_MEMORY_PER_BYTE = 6
_MEMORY_OF_A_BUILDER = 500_000_000
"""Peak memory of a builder as measured: at most a fixed number of bytes plus a multiple of the graph file's size."""


class BuiltEngine(StepOutput):
    """An engine object and its builder's output (`build.log`).

    The object holds `<precision>.<target>.engine` and, beside it, the record of the hardware and versions it is for.
    """

    encoder: Encoder
    precision: Precision
    target: str
    engine: ArtifactRef
    log: ArtifactRef
    made: Made | None = None
    """What the builder made; None where the target's engines do not tell."""

    @property
    def size(self) -> int:
        """Bytes of the engine, without its record."""
        return sum(entry.size for entry in self.engine.files if not is_record(entry.path))


def build(
    onnx_ref: ArtifactRef, encoder: Encoder, precision: Precision, target: str, profile: BatchProfile
) -> BuiltEngine:
    """Build one engine.

    Raises:
        UnknownTarget, EngineUnavailable: there is no such target, or it cannot be built here.
        BuildError, BuilderCrash: the builder refused the graph, or died.
    """
    require_target(target, precision)
    store = active_store()
    with store.staging() as folder:
        job = Job(
            onnx=store.path(onnx_ref, onnx_name(precision)),
            engine=folder / engine_name(precision, target),
            target=target,
            profile=profile,
        )
        with builder_turn(target):
            stats, log = build_in_child(job)
            made = backend_for(target).made(job.engine)
        write_record(job.engine, target, backend_for(target).platform(target), profile)
        engine = store.add("engine", folder)
    kept_log = keep(BUILD_LOG, {"build.log": log + "\n"})
    return BuiltEngine(
        encoder=encoder, precision=precision, target=target, engine=engine, log=kept_log, made=made, stats=stats
    )


def builds_at_once(sizes: Sequence[int]) -> int:
    """How many builds of graphs of these sizes (bytes) fit this machine's cores and free memory; at least one."""
    largest = max(sizes, default=0) * _MEMORY_PER_BYTE + _MEMORY_OF_A_BUILDER
    return max(1, min(len(os.sched_getaffinity(0)), _free_memory() // largest))


def _free_memory() -> int:
    """Bytes available to programs without swapping (proc(5): MemAvailable)."""
    info = Path("/proc/meminfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


@cached_step("build", version=9, packages=("onnxruntime", "tensorrt", "tensorrt-rtx", "polygraphy"))
def build_task(
    onnx_ref: ArtifactRef, encoder: Encoder, precision: Precision, target: str, profile: BatchProfile, device: str
) -> BuiltEngine:
    """`device` is the hardware that the engine is for; it is part of the cache key."""
    del device
    return build(onnx_ref, encoder, precision, target, profile)
