"""The progress of a long step: a bar in the terminal and, inside a Prefect run, a progress artifact in the UI."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException

from artifacts.inert import markdown, visible
from artifacts.number_words import about

_INTERVAL_S = 1.0
_LINE_S = 30.0
"""Seconds between two lines of the log if there is no terminal for a bar."""
_log = logging.getLogger(__name__)


@contextmanager
def progress(key: str, total: int, unit: str, what: str, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with the number of newly done items of `total`; `done` were finished before.

    `key` names the artifact (lower case, digits and dashes); `what` is what people read. The UI hears of it at most
    once a second, and of the end. Where standard error is no terminal, the log has a line every 30 seconds. What ends
    before `total` was reached needed no more: it ends as the whole.
    """
    from tqdm import tqdm

    pace = _Pace(total, unit, done)
    shown = _Shown(key, what, pace)
    lines = _Lines(what, pace)
    with tqdm(total=total, initial=done, desc=visible(what), unit=unit, disable=None) as bar:

        def advance(count: int) -> None:
            bar.update(count)
            pace.done += count
            shown.update()
            if bar.disable:
                lines.update()

        if total:
            shown.begin()
        yield advance
        if pace.done < total:
            bar.total = pace.total = pace.done
            bar.refresh()
            shown.update()


def _in_a_run() -> bool:
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


class _Pace:
    """How much is done, the speed, and the remaining time."""

    def __init__(self, total: int, unit: str, done: int) -> None:
        self.total = total
        self.unit = unit
        self.done = done
        self._before = done
        self._start = time.monotonic()

    @property
    def percent(self) -> float:
        """The percentage that is done."""
        return min(100.0, 100.0 * self.done / self.total) if self.total else 100.0

    def words(self) -> str:
        """`96 of 512 samples, 12.3/s, about 2 min left`; without a speed if nothing was done yet."""
        text = f"{self.done:,} of {self.total:,} {self.unit}s"
        took, made = time.monotonic() - self._start, self.done - self._before
        if not made or took <= 0:
            return text
        left = (self.total - self.done) * took / made
        return f"{text}, {made / took:,.1f}/s" + (f", about {about(left)} left" if self.done < self.total else "")


class _Lines:
    """Progress as lines of the log, if standard error is not a terminal."""

    def __init__(self, what: str, pace: _Pace) -> None:
        self._what = what
        self._pace = pace
        self._last = time.monotonic()

    def update(self) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_S:
            self._last = now
            logger = get_run_logger() if _in_a_run() else _log
            logger.info("%s: %s", visible(self._what), self._pace.words())


class _Shown:
    """The progress artifact. If the server cannot be reached, progress is lost, but the step goes on."""

    def __init__(self, key: str, what: str, pace: _Pace) -> None:
        self._key, self._what, self._pace = key, what, pace
        self._last = float("-inf")
        self._artifact: UUID | None = None

    def begin(self) -> None:
        if not _in_a_run():
            return
        with self._tolerant():
            made = create_progress_artifact(self._pace.percent, key=self._key, description=self._description())
            assert isinstance(made, UUID)  # in async code it would be a coroutine
            self._artifact = made

    def update(self) -> None:
        now = time.monotonic()
        is_last = self._pace.done >= self._pace.total
        if self._artifact is None or (now - self._last < _INTERVAL_S and not is_last):
            return
        self._last = now
        with self._tolerant():
            update_progress_artifact(self._artifact, self._pace.percent, description=self._description())

    def _description(self) -> str:
        return markdown(f"{self._what}: {self._pace.words()}")

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, PrefectException) as error:
            self._artifact = None
            get_run_logger().warning("no progress is shown from here on: %s", error)
