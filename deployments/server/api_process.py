"""The process of the embedded API server: `python -m deployments.server.api_process SOCKET`; see `embedded_api`.

SOCKET is the file descriptor of an inherited, listening socket. Standard input is a pipe that the parent holds and
never writes to: it is closed when the parent ends, for whatever reason, and then this process ends too.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time

import uvicorn

from deployments.server.artifact_order import newest_artifacts_first
from deployments.server.automations import limit_webhooks
from deployments.server.collect_aside import collect_aside
from deployments.server.embedded_api import GRACE_S
from deployments.server.home_lock import home_lock
from deployments.server.new_database import make_database
from deployments.server.own_pages import create_app
from deployments.server.sqlite_writes import wait_to_write


class _Server(uvicorn.Server):
    """A server that starts while no other server of its Prefect home starts: two that migrate a new database at once
    break it."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        with home_lock("api"):
            make_database()
            await super().startup(sockets)
        limit_webhooks()
        collect_aside()


def main() -> None:
    """Serve Prefect's API on the socket until the parent has ended."""
    wait_to_write()
    newest_artifacts_first()
    gc.disable()  # until `collect_aside`: imported objects stay for good, and collecting among them takes a second
    server = _Server(uvicorn.Config(create_app, factory=True, log_level="error", lifespan="on"))
    threading.Thread(target=_end_with_parent, args=[server], daemon=True).start()
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


def _end_with_parent(server: _Server) -> None:
    os.read(sys.stdin.fileno(), 1)
    if server.started:
        server.should_exit = True
        time.sleep(GRACE_S)
    os._exit(0)


if __name__ == "__main__":
    main()
