"""How far a long step is: a bar in the terminal and, inside a Prefect run, a progress artifact in the UI."""

from __future__ import annotations

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

_INTERVAL_S = 1.0


@contextmanager
def progress(key: str, total: int, unit: str, what: str) -> Iterator[Callable[[int], None]]:
    """A function to call with how many more of `total` are done.

    `key` names the artifact (lower case, digits and dashes); `what` is what people read. The UI hears of it at most
    once a second, and of the end.
    """
    from tqdm import tqdm

    shown = _Shown(key, total, f"{what}, {total} {unit}s")
    with tqdm(total=total, desc=visible(what), unit=unit, disable=None) as bar:

        def advance(count: int) -> None:
            bar.update(count)
            shown.advance(count)

        if total:
            shown.begin()
        yield advance


class _Shown:
    """The artifact. A server that is away costs the progress, not the step."""

    def __init__(self, key: str, total: int, description: str) -> None:
        self._key, self._total, self._description = key, total, description
        self._done = 0
        self._last = float("-inf")
        self._artifact: UUID | None = None

    def begin(self) -> None:
        if FlowRunContext.get() is None and TaskRunContext.get() is None:
            return
        with self._tolerant():
            made = create_progress_artifact(progress=0.0, key=self._key, description=markdown(self._description))
            assert isinstance(made, UUID)  # a coroutine only in async code
            self._artifact = made

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._artifact is None or (now - self._last < _INTERVAL_S and self._done < self._total):
            return
        self._last = now
        with self._tolerant():
            update_progress_artifact(self._artifact, progress=min(100.0, 100.0 * self._done / max(self._total, 1)))

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, PrefectException) as error:
            self._artifact = None
            get_run_logger().warning("no progress is shown from here on: %s", error)
