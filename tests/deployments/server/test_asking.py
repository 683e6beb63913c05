"""What listens at a port, and what a server says of itself and its workers; the servers answer as Prefect's does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prefect import __version__
from prefect.client.schemas.objects import Worker, WorkerStatus, WorkPool

from artifacts.errors import NoServer, PrefectMisconfigured
from deployments.server.asking import Server, ask_server, listener
from deployments.server.own_server import HOST
from tests.wording import refusal

Serve = Callable[[dict[str, str]], int]
POOL = WorkPool(name="mine", type="process", default_queue_id="00000000-0000-0000-0000-000000000001")
VERSION = {"/api/admin/version": json.dumps(__version__)}


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve({"/api/health": "true"})`: the port of a server that answers so, and 404 to everything else."""
    with ExitStack() as stack:

        def start(answers: dict[str, str]) -> int:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.rfile.read(int(self.headers.get("Content-Length") or 0))
                    body = answers.get(self.path, "{}").encode()
                    self.send_response(200 if self.path in answers else 404)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                do_POST = do_GET

                def log_message(self, *_: Any) -> None:
                    pass

            server = stack.enter_context(ThreadingHTTPServer((HOST, 0), Handler))
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
            return server.server_port

        yield start


@pytest.mark.parametrize(
    ("answers", "expected"),
    [({"/api/health": "true"}, "prefect"), ({"/api/health": "<html>"}, "other"), ({}, "other")],
)
def test_what_listens(answers: dict[str, str], expected: str, serve: Serve) -> None:
    assert listener(serve(answers)) == expected


def test_nothing_listens() -> None:
    with ThreadingHTTPServer((HOST, 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    assert listener(port) == "nothing"


def test_workers_that_are_at_work(serve: Serve, told: Any) -> None:
    at_work, gone = (
        Worker(name=name, work_pool_id=POOL.id, status=status)
        for name, status in (("w1", WorkerStatus.ONLINE), ("w2", WorkerStatus.OFFLINE))
    )
    workers = f"[{at_work.model_dump_json()}, {gone.model_dump_json()}]"
    pool = {"/api/work_pools/mine": POOL.model_dump_json(), "/api/work_pools/mine/workers/filter": workers}
    url = f"http://{HOST}:{serve(VERSION | pool)}/api"
    told(PREFECT_API_URL=url)
    assert ask_server("mine") == Server(url, __version__, ("w1",))


def test_a_server_without_the_pool(serve: Serve, told: Any) -> None:
    url = f"http://{HOST}:{serve(VERSION)}/api"
    told(PREFECT_API_URL=url)
    assert ask_server("mine") == Server(url, __version__, None)


def test_no_server_is_named(told: Any, tmp_path: Any) -> None:
    told(PREFECT_HOME=str(tmp_path))
    assert ask_server("mine") is None


def test_a_server_that_is_none(serve: Serve, told: Any) -> None:
    port = serve({})
    told(PREFECT_API_URL=f"http://{HOST}:{port}/api")
    with refusal(PrefectMisconfigured):
        ask_server("mine")
    with ThreadingHTTPServer((HOST, 0), BaseHTTPRequestHandler) as closed:
        told(PREFECT_API_URL=f"http://{HOST}:{closed.server_port}/api")
    with pytest.raises(NoServer):
        ask_server("mine")
