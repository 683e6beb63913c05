"""Targets `tensorrt` and `trtrtx`: engines of the exported files, through the backends of `tasks.engines`.

Unlike the rest of the bench, they need pydantic, Polygraphy and the runtime's package.
"""

from __future__ import annotations

import importlib.util
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import EngineFailed, EngineMismatch
from tasks.bench.evidence import Evidence
from tasks.bench.gpu_timing import capture_if_possible
from tasks.bench.settings import Precision
from tasks.bench.variant import Commands, Prepared
from tasks.torch_fp8.onnx_graph import OnnxGraph

if TYPE_CHECKING:
    import torch

    from tasks.engines.base import BatchProfile
    from tasks.engines.by_hand import Engine
    from tasks.engines.resident import Bound, DeviceEngine
    from tasks.engines.tensorrt import TensorRt, TensorRtRtx

TARGETS = ("tensorrt", "trtrtx")
_PACKAGES = ("pydantic", "polygraphy")
_PROFILED_RUNS = 5


def why_not(target: str, precision: Precision) -> str | None:
    """Why engines of a target cannot be built and run here; None if they can."""
    missing = next((name for name in _PACKAGES if importlib.util.find_spec(name) is None), None)
    if missing is not None:
        return f"the package {missing} is not installed (pip install {missing})"
    backend = _backend(target)
    no_fp8 = backend.why_no_fp8(target) if precision == "fp8" else None
    return backend.why_not_build(target) or backend.why_not_run(target) or no_fp8


@dataclass(frozen=True)
class EngineVariant:
    """A `tasks.bench.variant.Variant`; `named` is the engine's description for the commands by hand."""

    graph: OnnxGraph
    engine: DeviceEngine
    named: Engine

    @classmethod
    def load(cls, path: Path, target: str, batches: Sequence[int]) -> EngineVariant:
        """Load the engine beside an exported file if it is for this machine and these batch sizes, else build one.

        Raises:
            EngineUnavailable, BuildError, EngineFailed, ObjectDamaged: it cannot be built or loaded.
        """
        from tasks.engines.base import BatchProfile
        from tasks.engines.by_hand import Engine

        graph = OnnxGraph.load(path)
        name = f"{path.stem}.{target}.engine"
        profile = BatchProfile(min=min(batches), opt=max(batches), max=max(batches))  # one engine for all of them
        engine = _shipped(path.with_name(name), target, profile) or _built(path, target, profile)
        home = path.parent.name
        named = Engine(
            target=target,
            onnx=f"{home}/{path.name}",
            path=f"{home}/{name}",
            kept=f"{home}/{path.stem}.{target}",
            inputs={port.name: port.shape for port in graph.inputs},
            profile=engine.profile,
        )
        return cls(graph, engine, named)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        import torch

        size = self.engine.profile.max
        starts = range(0, len(inputs[0]), size)
        return torch.cat([self._once([tensor[start : start + size] for tensor in inputs]) for start in starts])

    def _once(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """One batch of at most the profile's largest, filled up to its smallest with its last row."""
        import torch

        missing = max(0, self.engine.profile.min - len(inputs[0]))
        bound = self._bind([torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x for x in inputs])
        embeddings = _enqueue(bound)
        torch.cuda.synchronize()  # the context must live until its work is done
        return embeddings[: len(inputs[0])]

    def prepare(self, sets: Sequence[Sequence[torch.Tensor]]) -> Prepared:
        bound = [(self._bind(inputs),) for inputs in sets]
        run, reason = capture_if_possible(_enqueue, bound)
        note = None if reason is None else f"without a CUDA graph, each run enqueued from Python: {reason}"
        return Prepared(run, partial(self._evidence, sets[0]), note)

    def commands(self, batch: int) -> Commands:
        from tasks.engines.by_hand import build_command, run_command

        return Commands(shlex.join(build_command(self.named)), shlex.join(run_command(self.named, batch)))

    def close(self) -> None:
        self.engine.close()

    def _bind(self, inputs: Sequence[torch.Tensor]) -> Bound:
        return self.engine.bind({port.name: x for port, x in zip(self.graph.inputs, inputs, strict=True)})

    def _evidence(self, inputs: Sequence[torch.Tensor]) -> Evidence:
        """Profile the layers in a separate context, as a context that reports its layers is slower."""
        import torch

        from tasks.bench.engine_evidence import engine_evidence, no_evidence

        try:
            bound = self._bind(inputs)
            _enqueue(bound)
            times = self.engine.layer_times(bound, torch.cuda.current_stream().cuda_stream, _PROFILED_RUNS)
            torch.cuda.synchronize()
            return engine_evidence(self.engine.layers(bound), times, self.graph)
        except (EngineFailed, RuntimeError) as error:  # the earlier timings are valid all the same
            return no_evidence(f"the runtime does not tell: {error}")


def _backend(target: str) -> TensorRt | TensorRtRtx:
    from tasks.engines.tensorrt import TensorRt, TensorRtRtx

    return TensorRt() if target == TensorRt.name else TensorRtRtx()


def _shipped(engine: Path, target: str, profile: BatchProfile) -> DeviceEngine | None:
    """The engine in the exported folder; None if there is none for this machine and these batch sizes."""
    if not engine.exists():
        return None
    try:
        found = _backend(target).resident(engine)
    except EngineMismatch:
        return None
    return found if found.profile.min <= profile.min and profile.max <= found.profile.max else None


def _built(onnx: Path, target: str, profile: BatchProfile) -> DeviceEngine:
    """Build an engine in a child process, so that a crash of native code ends only the child.

    Raises:
        EngineUnavailable, BuildError, BuilderCrash, EngineFailed: it cannot be built or loaded.
    """
    from tasks.engines.child import Job, build_in_child
    from tasks.engines.record import write_record

    backend = _backend(target)
    with tempfile.TemporaryDirectory(prefix="clipsmith-bench-") as work:
        engine = Path(work) / f"{onnx.stem}.{target}.engine"
        build_in_child(Job(onnx=onnx.absolute(), engine=engine, target=target, profile=profile))
        write_record(engine, target, backend.platform(target), profile)
        return backend.resident(engine)


def _enqueue(bound: Bound) -> Any:
    """Run on the current stream, which is the captured stream during a capture."""
    import torch

    return bound.enqueue(torch.cuda.current_stream().cuda_stream)
