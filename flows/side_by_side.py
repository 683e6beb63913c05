"""Calls that do not need each other, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    call: Callable[[Item], Result],
    items: Sequence[Item],
    at_once: int,
    stopped: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Generator[Result]:
    """The results in the order of the items; each call, in a thread, sees this run's context.

    When a call raises, or the caller closes the generator, those that have begun are waited for and the others do not
    begin. When a signal ends the waiting (Ctrl-C, or Prefect's exception for SIGTERM) they are waited for within
    `stopped()`, which makes that short.
    """
    pool = ThreadPoolExecutor(at_once)
    try:
        for future in [pool.submit(copy_context().run, call, item) for item in items]:
            yield future.result()
    except (Exception, GeneratorExit):
        raise
    except BaseException:
        with stopped():
            pool.shutdown(cancel_futures=True)
        raise
    finally:
        pool.shutdown(cancel_futures=True)
