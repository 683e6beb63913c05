"""Independent calls, a few at a time."""

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
    """Call `call` for each item in threads that see this run's context, and yield the results in the items' order.

    At most `at_once` calls run at a time. When a call raises, or the caller closes the generator, started calls are
    waited for and the others are not started. When a signal ends the wait (Ctrl-C, or Prefect's exception for SIGTERM),
    started calls are waited for inside `stopped()`, which is expected to make them end soon.
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
