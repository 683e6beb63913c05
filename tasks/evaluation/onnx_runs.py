"""Runs of ONNX Runtime that a run of clipsmith which is told to end does not wait for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from artifacts.errors import StepStopped

_lock = threading.Lock()
_running: set[Any] = set()
_stopping = False


def run(session: Any, outputs: Sequence[str], feed: dict[str, Any]) -> list[Any]:
    """The outputs of a session for one batch.

    Raises:
        StepStopped: the run was told to end, see `runs_stopped`.
    """
    import onnxruntime as ort

    options = ort.RunOptions()
    with _lock:
        if _stopping:
            raise _stopped()
        _running.add(options)
    try:
        made: list[Any] = session.run(outputs, feed, options)
        return made
    except Exception as error:
        if options.terminate:
            raise _stopped() from error
        raise
    finally:
        with _lock:
            _running.discard(options)


@contextmanager
def runs_stopped() -> Iterator[None]:
    """End all such runs, after the operator that each is at, and begin none in the block, in any thread."""
    global _stopping
    with _lock:
        _stopping = True
        for options in _running:
            options.terminate = True
    try:
        yield
    finally:
        _stopping = False


def _stopped() -> StepStopped:
    return StepStopped("ONNX Runtime was stopped: the run was told to end", fix="start the run again")
