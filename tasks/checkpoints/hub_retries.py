"""Retries of requests to the Hugging Face hub: transient errors are tried again; any other answer is final."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from artifacts.errors import causes
from tasks.runs.run_log import say

if TYPE_CHECKING:
    from tenacity import RetryCallState

Result = TypeVar("Result")

_ATTEMPTS = 4
_FIRST_WAIT_S, _LONGEST_WAIT_S = 2.0, 30.0
_BUSY = (408, 429, 500, 502, 503, 504)
"""Transient HTTP statuses: request timeout, too many requests, and errors of an overloaded server."""


def patiently(fetch: Callable[[], Result]) -> Result:
    """Call `fetch`, up to 4 times, 2 to 30 s apart, as long as the hub times out or is busy, and return its result.

    Raises:
        The errors of `fetch`, at once if waiting does not help: no such model, no access, no network.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential_jitter(initial=_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
        before_sleep=_say_so,
        reraise=True,
    )
    return retrying(fetch)


def is_transient(error: BaseException) -> bool:
    """Whether an error of the hub's libraries was caused by a time-out, a broken connection or a busy server."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    passing = (httpx.TimeoutException, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, TimeoutError)
    return any(
        isinstance(cause, passing) or (isinstance(cause, HfHubHTTPError) and cause.response.status_code in _BUSY)
        for cause in causes(error)
    )


def _say_so(attempt: RetryCallState) -> None:
    assert attempt.outcome is not None and attempt.next_action is not None
    say(
        f"the hub does not answer now ({type(attempt.outcome.exception()).__name__}): "
        f"asked again in {attempt.next_action.sleep:.0f} s"
    )
