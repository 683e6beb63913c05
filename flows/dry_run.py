"""What a run would do, told without doing it: its steps, which of them are cached, for how long, and on what disk."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple, Self

from artifacts import fs
from artifacts.copies.opening import open_store
from artifacts.errors import NotEnoughSpace, StoreReadOnly
from artifacts.names import model_name_from
from artifacts.store import layout
from artifacts.store.store import Store, activate, look_into
from flows.inputs import recipe_of
from flows.parameters import OptimizeParameters
from flows.planned_steps import LastTimes, PlannedStep, last_times, planned_steps, precisions_of
from flows.step_runner import Ended, Job, StepRunner
from flows.wiring import Wiring
from tasks.checkpoints.hub_name import typed_name
from tasks.checkpoints.locating import locate_here
from tasks.checkpoints.snapshot import Snapshot
from tasks.pipeline.disk_space import needed_bytes, require_space
from tasks.runs.steps import kept


class Forecast(NamedTuple):
    """What a run would do.

    `cached` are those of its `steps` that are in the cache, and `times` the last run's; `needed` and `free` are in
    bytes. Where the checkpoint is not on this machine, `needed` is None, and nothing is known of the cache.
    """

    steps: list[PlannedStep]
    cached: frozenset[PlannedStep]
    times: LastTimes | None
    needed: int | None
    free: int

    @property
    def seconds(self) -> float | None:
        """How long what is not in the cache will take by the last run's times; None where one is not known."""
        return None if self.times is None else self.times.left([each for each in self.steps if each not in self.cached])


def forecast(parameters: OptimizeParameters) -> Forecast:
    """Look into store and cache, and change nothing. The model has to be on this machine, or little is known.

    Raises:
        NotEnoughSpace: the disk has too little room. Any other ClipsmithError: as the run would, before its first step.
    """
    root = Path(parameters.store).expanduser().absolute()
    disk = next(path for path in (root, *root.parents) if path.exists())
    free = fs.free_bytes(disk)
    model = typed_name(parameters.model)
    with _store(root) as store, activate(store):
        if locate_here(model, parameters.revision) is None:
            count = parameters.evaluation.source_and_count(demo=False)[1]
            steps = planned_steps(parameters, count, brings_amax=False, brings_state=False)
            return Forecast(
                steps, frozenset(), last_times(store, parameters.name or model_name_from(model)), None, free
            )
        look = _Look()
        with suppress(_Seen, StoreReadOnly, NotEnoughSpace):  # nothing was written; the disk is asked about below
            _DryWiring(parameters, recipe_of(parameters), look).run()
        made = (look.snapshot, precisions_of(parameters), parameters.targets)
        require_space(disk, *made)
        needed = needed_bytes(*made)
        return Forecast(look.planned, frozenset(look.found), look.times, needed, free)


@contextmanager
def _store(root: Path) -> Iterator[Store]:
    """The store, to be read; where there is none an empty one that goes afterwards."""
    if (root / layout.HEADER).exists():
        yield open_store(root, writable=False)
        return
    with TemporaryDirectory() as scratch:
        look_into(scratch, writable=True)
        yield open_store(scratch, writable=False)


class _Seen(Exception):
    """What can be known is."""


class _Unknown(int):
    """Stands for the output of a step that is not in the cache, and for all that is in it: it knows what tells the step
    from others, counts as 0, and holds nothing."""

    def __new__(cls, label: Mapping[str, str]) -> Self:
        made = super().__new__(cls)
        made.__dict__.update(label)
        return made

    def __getattr__(self, name: str) -> _Unknown:
        return _Unknown(self.__dict__)

    def __call__(self) -> _Unknown:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _has_unknown(value: Any) -> bool:
    """Whether an argument of a step is the output of one that is not in the cache, or holds one."""
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, _Unknown) or (isinstance(value, list | tuple) and any(map(_has_unknown, value)))


class _DryWiring(Wiring):
    def _keep(self, *arguments: Any) -> None:
        """There will be no release."""


_DECISIVE = ("check", "probe", "study")
"""Without what these make, it is not known what others are given."""


class _Look(StepRunner):
    """Looks for each step in the cache; what needs a step that is not there is not there either."""

    snapshot: Snapshot

    def __init__(self) -> None:
        super().__init__()
        self.planned: list[PlannedStep] = []
        self.found: list[PlannedStep] = []
        self.looked_for: set[PlannedStep] = set()
        self.times: LastTimes | None = None

    def expect(self, steps: Sequence[PlannedStep], times: LastTimes | None) -> None:
        self.planned, self.times = list(steps), times

    def call(self, name: str, step: Any, job: Job) -> Ended:
        output = None if _has_unknown(job.arguments) else kept(step, job.arguments)
        self.looked_for.add(planned := PlannedStep(name, tuple(job.label.values())))
        if output is not None:
            self.found.append(planned)
        if self.looked_for >= set(self.planned) or (output is None and name in _DECISIVE):
            raise _Seen
        return SimpleNamespace(name="", result=lambda: _Unknown(job.label) if output is None else output)

    def _output(self, name: str, ended: Ended, label: dict[str, str]) -> Any:
        """It cost nothing."""
        del name, label
        return ended.result()

    def side_by_side(
        self,
        name: str,
        step: Any,
        jobs: Sequence[Job],
        at_once: int,
        stopped: Callable[[], AbstractContextManager[None]],
    ) -> Generator[Any]:
        del at_once, stopped
        for job in jobs:
            yield self.step(name, step, *job.arguments, **job.label)

    @contextmanager
    def beside(
        self, name: str, step: Any, jobs: Sequence[Job], stopped: Callable[[], AbstractContextManager[None]]
    ) -> Iterator[Iterator[Any]]:
        del stopped
        yield iter([self.step(name, step, *job.arguments, **job.label) for job in jobs])

    def plain(self, task: Any, *arguments: Any) -> Any:
        made = task.fn(*arguments)
        if isinstance(made, Snapshot):
            self.snapshot = made
        return made

    def name_run(self, name: str) -> None:
        """There is no run."""

    def say(self, message: str) -> None:
        """Likewise."""

    def warn(self, message: str) -> None:
        """Likewise."""
