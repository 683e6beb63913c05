"""Is a server there, and does a child end when it is told to, or else is killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deployments.server.child_process import end, server_problem

HOST = "127.0.0.1"


@contextmanager
def server(status: int) -> Iterator[tuple[int, list[str]]]:
    """A server that answers everything with this status; its port, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer((HOST, 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield listening.server_port, asked
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "problem"), [(200, None), (503, "answered with status 503"), (404, "status 404")])
def test_only_a_healthy_answer_is_none(status: int, problem: str | None) -> None:
    with server(status) as (port, asked):
        found = server_problem(HOST, port, 10)
    assert found is None if problem is None else problem in str(found)
    assert asked == ["/api/health"]


def test_one_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.create_server((HOST, 0)) as silent:
        begun = time.monotonic()
        assert server_problem(HOST, silent.getsockname()[1], 0.3) == "did not answer within 0.3 s"
        assert 0.25 < time.monotonic() - begun < 5


def test_one_that_is_not_there_or_ends_meanwhile_has_died() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(1)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert str(server_problem(HOST, port, 10)).startswith("died: ")
        thread.join()
    assert str(server_problem(HOST, port, 10)).startswith("died: ")


def child(code: str) -> subprocess.Popen[bytes]:
    """A child that has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys, time\nprint(1, flush=True)\n{code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def test_a_child_ends_by_itself_when_its_pipe_is_closed() -> None:
    process = child("sys.stdin.read(); sys.exit(7)")
    end(process, 20)
    assert process.returncode == 7


def test_one_that_does_not_is_killed_when_its_time_is_up() -> None:
    process = child("time.sleep(600)")
    begun = time.monotonic()
    end(process, 0.3)
    assert 0.25 < time.monotonic() - begun < 5
    assert process.returncode == -signal.SIGKILL


def test_one_that_has_ended_already_is_no_error() -> None:
    process = child("sys.exit(3)")
    process.wait()
    end(process, 20)
    assert process.returncode == 3
