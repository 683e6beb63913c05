"""The layer between the wiring of a run and Prefect: it calls the steps, logs them, and records what they cost."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, NamedTuple, Protocol

from prefect import get_run_logger
from prefect.task_engine import TaskRunTimeoutError

from artifacts.errors import StepTimedOut
from artifacts.manifest import Row
from artifacts.number_words import about
from artifacts.schema import new_row
from flows.planned_steps import LastTimes, PlannedStep, plan_words
from flows.side_by_side import begun, side_by_side
from tasks.prefect_ui import tags
from tasks.runs.step_cost import StepStats
from tasks.runs.step_limit import step_limit_s
from tasks.runs.steps import StepOutput

_CACHED = "Cached"


class Ended(Protocol):
    """How a step ended; Prefect's `State` is one."""

    @property
    def name(self) -> str | None:
        """`Cached` if the result came from the cache."""
        ...

    def result(self) -> Any:
        """The step's output. Raises the error that the step raised."""
        ...


class Job(NamedTuple):
    """A call of a step: its arguments, and the labels that distinguish it from other calls of the step."""

    arguments: tuple[Any, ...]
    label: dict[str, str]


class StepRunner(ABC):
    """Runs the steps of one run.

    `stages` are the table of what the steps cost, `timings` that of what runs every time and is not cached. Once it is
    told what to `expect`, each step's line says which of how many it is, and how long the rest will take.
    """

    def __init__(self) -> None:
        self.stages: list[Row] = []
        self.timings: list[Row] = []
        self._ahead: list[PlannedStep] | None = None
        self._times: LastTimes | None = None

    def expect(self, steps: Sequence[PlannedStep], times: LastTimes | None) -> None:
        """Say how many steps there will be and, by what they took last time, for how long."""
        self._ahead, self._times = list(steps), times
        self.say(plan_words(steps, times))

    def step(self, name: str, step: Any, *arguments: Any, **label: str) -> Any:
        """Call a cached step, log it, record what it cost, and return its output.

        Args:
            name: The step's name in the log and in the table of stages.
            step: The Prefect task, made by `cached_step`.
            arguments: The step's arguments.
            label: What distinguishes this call from others of the step: `encoder`, `precision`, `target`.

        Raises:
            StepTimedOut: the step took longer than a step may.
        """
        return self._output(name, self.call(name, step, Job(arguments, label)), label)

    def side_by_side(
        self,
        name: str,
        step: Any,
        jobs: Sequence[Job],
        at_once: int,
        stopped: Callable[[], AbstractContextManager[None]],
    ) -> Generator[Any]:
        """Call a cached step for each job, `at_once` at the same time, and yield the outputs in the jobs' order.

        `stopped` is entered while calls are waited for that a signal ends: see `flows.side_by_side`.
        """
        with closing(side_by_side(lambda job: self.call(name, step, job), jobs, at_once, stopped)) as ended:
            for job, end in zip(jobs, ended, strict=True):
                yield self._output(name, end, job.label)

    @contextmanager
    def beside(
        self, name: str, step: Any, jobs: Sequence[Job], stopped: Callable[[], AbstractContextManager[None]]
    ) -> Iterator[Iterator[Any]]:
        """Call a cached step for each job, one after the other, while the block does something else.

        The block is given the outputs in the jobs' order, and waits for each that it takes; `stopped` is as above.
        """
        with begun(lambda job: self.call(name, step, job), jobs, 1, stopped) as coming:
            yield (self._output(name, end.result(), job.label) for job, end in zip(jobs, coming, strict=True))

    def timed(self, name: str, stats: StepStats) -> None:
        """Record the cost of work that runs every time and is not cached."""
        self.timings.append(_stage(name, stats, {}))

    def _output(self, name: str, ended: Ended, label: dict[str, str]) -> Any:
        output: StepOutput = ended.result()
        self.stages.append(_stage(name, output.stats, label))
        step = PlannedStep(name, tuple(label.values()))
        which, left = self._place(step)
        cost = f"{output.stats.wall_s:7.2f} s {output.stats.peak_rss_mb:5.0f} MiB"
        rest = "  (cached)" if ended.name == _CACHED else f"{_speed(output.stats)}{left}"
        self.say(f"{which}{step!s:<28} {cost}{rest}")
        return output

    def _place(self, step: PlannedStep) -> tuple[str, str]:
        """`step 3 of 14: `, and how long the steps after it will take; empty where that is not known."""
        if self._ahead is None:
            return "", ""
        if step in self._ahead:
            self._ahead.remove(step)
        total = len(self.stages) + len(self._ahead)
        left = None if self._times is None else self._times.left(self._ahead)
        which = f"step {len(self.stages):>{len(str(total))}} of {total}: "
        return which, f", about {about(left)} left" if left else ""

    @abstractmethod
    def call(self, name: str, step: Any, job: Job) -> Ended:
        """Call a cached step and wait for its end; may be called from any thread."""

    @abstractmethod
    def plain(self, task: Any, *arguments: Any) -> Any:
        """Call a task that is not cached, and return what it returns."""

    @abstractmethod
    def name_run(self, name: str) -> None:
        """Set the name under which the run is shown."""

    @abstractmethod
    def say(self, message: str) -> None:
        """Log a message for people who watch the run."""

    @abstractmethod
    def warn(self, message: str) -> None:
        """Log a warning for people who watch the run."""


def _speed(stats: StepStats) -> str:
    """The speed in words, for a step that processes samples; empty for others."""
    return "" if stats.samples_per_s is None else f"  {stats.samples_per_s:,.0f}/s"


def _stage(step: str, stats: StepStats, label: dict[str, str]) -> Row:
    """The row of the table `stages` for one step: what it cost when it ran."""
    return new_row("stages", step=step, **label, **stats.model_dump())


class PrefectRunner(StepRunner):
    """Runs steps as Prefect tasks inside a flow run; `minutes` is the time limit of a step."""

    def __init__(self, minutes: int) -> None:
        super().__init__()
        self._minutes = minutes

    def call(self, name: str, step: Any, job: Job) -> Ended:
        # Prefect can stop a step at its limit only in the main thread; builds run in others and stop their processes.
        in_main = threading.current_thread() is threading.main_thread()
        named = step.with_options(
            task_run_name="-".join([name, *job.label.values()]),
            timeout_seconds=step_limit_s() if in_main else None,
        )
        state = named(*job.arguments, return_state=True)
        return _PrefectEnd(state, " ".join([name, *job.label.values()]), self._minutes)

    def plain(self, task: Any, *arguments: Any) -> Any:
        return task(*arguments)

    def name_run(self, name: str) -> None:
        tags.name_run(name)

    def say(self, message: str) -> None:
        get_run_logger().info("%s", message)

    def warn(self, message: str) -> None:
        get_run_logger().warning("%s", message)


class _PrefectEnd:
    """The state in which Prefect ended a step; a time-out is reported as our own error."""

    def __init__(self, state: Any, step: str, minutes: int) -> None:
        self._state, self._step, self._minutes = state, step, minutes

    @property
    def name(self) -> str | None:
        name: str | None = self._state.name
        return name

    def result(self) -> Any:
        try:
            return self._state.result()
        except TaskRunTimeoutError as error:
            raise StepTimedOut(
                f"the step {self._step} was not done after {self._minutes} min, and was ended",
                fix="raise `step_minutes`; what was done before is found in the cache",
            ) from error
