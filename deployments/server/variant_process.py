"""Variants of one nightly run in processes of their own: in threads Python's lock lets only one of them compute.

A child ends with its parent: its standard input is a pipe from it, which is closed by the kernel at the latest.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.engines.child import death, end_with_parent

if TYPE_CHECKING:
    from flows.nightly import Made
    from flows.parameters import OptimizeParameters

_PROGRAM = ("-m", "deployments.server.variant_process")
_END = signal.SIGUSR1
"""Ends a child silently as long as that has no handler for it: to SIGINT Python itself answers with a traceback."""
_GRACE_S = 15.0
"""How long a child that is told to end may take to report that, in seconds."""


class VariantProcesses:
    """The processes of one nightly run. `at_once` of them share the processor: each computes with its share of the
    cores, unless `OMP_NUM_THREADS` says otherwise."""

    def __init__(self, at_once: int) -> None:
        # With a thread per core each, four B/32 on 16 cores took 76 s for a step that L/14 alone takes 6.5 s for.
        share = max(1, len(os.sched_getaffinity(0)) // at_once)
        self._environment = {"OMP_NUM_THREADS": str(share)} | os.environ
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopping = False

    def make(self, variant: str, parameters: OptimizeParameters) -> Made:
        """Run `optimize` in a fresh Python, as a subflow of the run that calls this, and wait for its end. Its lines
        begin with the variant's name."""
        import cloudpickle  # type: ignore[import-untyped]
        from prefect.context import serialize_context

        from flows.nightly import Made

        given = cloudpickle.dumps((serialize_context(), parameters))
        with self._lock:
            if self._stopping:
                return Made("", "stopped before it began")
            child = subprocess.Popen(
                [sys.executable, "-P", *_PROGRAM, variant],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches it through `stopped` alone, once
            )
            self._running.add(child)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it has died already
                child.stdin.write(given)
                child.stdin.flush()
            said = child.stdout.read()
            code = child.wait()
        finally:
            child.kill()
            child.wait()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            child.stdout.close()
            with self._lock:
                self._running.discard(child)
        return Made(*pickle.loads(said)) if code == 0 else Made("", f"its process died: {death(code)}")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Inside the block, tell all children to end, kill those that do not in time, and start none."""
        with self._lock:
            self._stopping = True
            running = list(self._running)
        for child in running:
            child.send_signal(_END)
        killing = threading.Timer(_GRACE_S, _kill, [running])
        killing.start()
        try:
            yield
        finally:
            killing.cancel()


def _kill(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.kill()


def main() -> None:
    """The child: run `optimize` with what the parent sends, and answer with the run's id and how it ended."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not the answer
    from prefect.context import hydrated_context

    from deployments.server.environment import garbage_left, quiet_libraries

    with garbage_left():
        quiet_libraries(sys.argv[1])
        from flows.nightly import run_here
    context, parameters = pickle.load(sys.stdin.buffer)
    end_with_parent()
    try:
        signal.signal(_END, signal.default_int_handler)
        with hydrated_context(context):
            made = run_here(sys.argv[1], parameters)
    except KeyboardInterrupt:  # the parent says why
        sys.exit(1)
    answer.write(pickle.dumps(tuple(made)))
    answer.close()


if __name__ == "__main__":
    main()
