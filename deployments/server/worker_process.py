"""The process of the worker that `clipsmith up` starts: `python -m deployments.server.worker_process POOL READY`.

READY is the number of an inherited pipe that gets one byte when the worker asks for work. Standard input is a pipe that
the parent holds. It brings one byte when the server is there; it ends when the parent does, or when it wants the worker
to end; the flow runs then end, too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time

from deployments.server.descendants import adopt_orphans, children, kill_descendants, send

RUNS_GRACE_S = 3.5
"""How long flow runs may take to tell the server that they were ended, in seconds."""


def worker_name() -> str:
    """One per host, so that a restart is the same worker in the UI and not one more."""
    return socket.gethostname()


def main() -> None:
    """Run what the server has for the pool until the parent is gone."""
    import prefect.workers.process  # noqa: F401  (it takes its time, and the server is still starting)

    pool, ready = sys.argv[1], int(sys.argv[2])
    adopt_orphans()
    if not os.read(sys.stdin.fileno(), 1):
        return
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(_work(pool, ready))


async def _work(pool: str, ready: int) -> None:
    from prefect.workers.process import ProcessWorker

    worker = ProcessWorker(work_pool_name=pool, name=worker_name(), create_pool_if_not_found=False)

    def started(_message: str) -> None:
        os.write(ready, b"1")

    await worker.start(printer=started)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    deadline = time.monotonic() + RUNS_GRACE_S
    told: set[int] = set()
    while (runs := children(os.getpid())) and time.monotonic() < deadline:
        send([run for run in runs if run not in told], signal.SIGTERM)
        told.update(runs)
        time.sleep(0.05)
    kill_descendants()
    os._exit(0)


if __name__ == "__main__":
    main()
