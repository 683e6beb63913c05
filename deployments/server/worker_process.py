"""The process of the worker that `clipsmith up` starts: `python -m deployments.server.worker_process POOL READY`.

READY is the file descriptor of an inherited pipe; the worker writes one byte to it when it asks for work. Standard
input is a pipe from the parent. The parent writes one byte when the server answers, and closes it to end the worker and
its flow runs; it is also closed when the parent ends.
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
    """The worker's name: one per host, so that a restarted worker is the same one in the UI."""
    return socket.gethostname()


def main() -> None:
    """Run the pool's flow runs until the parent has ended."""
    import prefect.workers.process  # noqa: F401  (slow, so it is done while the server is starting)

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
