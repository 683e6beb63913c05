"""A webhook on the loopback that keeps what it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prefect.client.schemas.objects import FlowRun


@dataclass
class Receiver:
    """What was told, and where to."""

    url: str = ""
    paths: set[str] = field(default_factory=set)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def wait_for_run(self, run: FlowRun, timeout: float) -> dict[str, Any]:
        """The call that is about this run."""
        return self.wait_for(lambda call: call.get("id") == str(run.id), timeout)[0]

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], timeout: float) -> list[dict[str, Any]]:
        """The calls of this kind, as soon as there is one."""
        deadline = time.monotonic() + timeout
        while not (found := [call for call in self.calls if wanted(call)]):
            assert time.monotonic() < deadline, f"no such call within {timeout} s, only {self.calls}"
            time.sleep(0.2)
        return found


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.paths.add(self.path)
            found.calls.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
