"""Calls that do not need each other, a few at a time or beside other work."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def begun(
    call: Callable[[Item], Result],
    items: Sequence[Item],
    at_once: int,
    stopped: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[list[Future[Result]]]:
    """The results to come, in the order of the items; each call, in a thread, sees this run's context.

    When the block ends, calls that have begun are waited for and the others do not begin. When a signal ends the block
    (Ctrl-C, or Prefect's exception for SIGTERM) they are waited for within `stopped()`, which makes that short.
    """
    pool = ThreadPoolExecutor(at_once)
    try:
        yield [pool.submit(copy_context().run, call, item) for item in items]
    except (Exception, GeneratorExit):
        raise
    except BaseException:
        with stopped():
            pool.shutdown(cancel_futures=True)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def side_by_side(
    call: Callable[[Item], Result],
    items: Sequence[Item],
    at_once: int,
    stopped: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Generator[Result]:
    """The results in the order of the items; `begun` says what happens when a call raises, the caller closes the
    generator, or a signal ends the waiting."""
    with begun(call, items, at_once, stopped) as coming:
        for future in coming:
            yield future.result()
