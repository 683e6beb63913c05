"""The embedded API server: up when it says so, on the loopback only, and gone with whatever started it."""

from __future__ import annotations

import ast
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.server import embedded_api
from deployments.server.embedded_api import EmbeddedApi
from tests.processes import left_after, marked, new_mark, own_environment
from tests.thorough import amount

COMMAND = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script starts in the background
from deployments.server.embedded_api import EmbeddedApi
api = EmbeddedApi.start()
print(api.port, flush=True)
{before}
api.wait()
import prefect, os
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    print(client.api_url, client.api_healthcheck(), os.environ["PREFECT_API_URL"], flush=True)
{after}
"""
PROBE = """
import base64, http.client
own = "http://localhost:%d" % api.port
upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
upgrade |= {"Sec-WebSocket-Key": "x" * 22 + "==", "Sec-WebSocket-Protocol": "prefect"}
def ask(path="/admin/version", method="GET", auth=os.environ["PREFECT_API_AUTH_STRING"], **headers):
    headers |= {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode()} if auth else {}
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
    connection.request(method, "/api" + path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers.get("Access-Control-Allow-Origin")
asked = {"Origin": "http://evil.test", "Access-Control-Request-Method": "POST"}
def stream(**headers):
    return ask("/events/out", **headers, **upgrade)[0]
print({
    "own": [ask(), ask(Host="localhost:1"), ask("/health", auth=None), ask(Origin=own)],
    "password": [ask(auth=None)[0], ask(auth="clipsmith:guess")[0]],
    "host": [ask(Host=name)[0] for name in ("evil.test", "127.0.0.1.evil.test:%d" % api.port, "")],
    "origin": [ask(Origin=name) for name in ("http://evil.test", "null", own + "0")],
    "preflight": ask(method="OPTIONS", auth=None, **asked),
    "stream": [stream(), stream(Origin="http://evil.test"), stream(Host="evil.test")],
})
"""
SERVER = "deployments.server.api_process"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def mark() -> dict[str, str]:
    return new_mark()


@pytest.fixture
def start(mark: dict[str, str]) -> Iterator[Start]:
    """`start(before, after, **environment)`: a command with an embedded server, and code at two moments of its life."""
    running: list[subprocess.Popen[str]] = []

    def run(before: str = "", after: str = "", **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-c", COMMAND.format(before=before, after=after)]
        pipe = subprocess.PIPE
        child = subprocess.Popen(
            command, env=own_environment(**mark, **environment), stdout=pipe, stderr=pipe, text=True
        )
        running.append(child)
        return child

    yield run
    for child in running:
        child.kill()
        child.communicate()
    assert not left_after(mark, 20)


def servers(mark: dict[str, str]) -> list[int]:
    return [pid for pid, command in marked(mark).items() if SERVER in command]


def test_a_command_uses_its_own_server_and_takes_it_along(start: Start, mark: dict[str, str]) -> None:
    after = "from tasks.device import device_turn; print(device_turn._server())\n"
    after += "with get_client(sync_client=True) as client: print(client.api_version())" + PROBE
    child = start(after=after)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    *said, told = out.splitlines()
    port, url, problem, variable, shared, version = " ".join(said).split()
    assert version.startswith("3.")
    assert shared == "None"  # nobody else asks it for a limit
    assert (url, problem, variable) == (f"http://127.0.0.1:{port}/api/", "None", f"http://127.0.0.1:{port}/api")
    assert not marked(mark)
    only_those_who_know_the_password_and_its_own_pages(ast.literal_eval(told), f"http://localhost:{port}")


def only_those_who_know_the_password_and_its_own_pages(answers: dict[str, Any], own: str) -> None:
    """With the password, except where it is what fails: each guard holds without the others."""
    assert answers == {
        "own": [(200, None), (200, None), (200, None), (200, own)],
        "password": [401, 401],
        "host": [400, 400, 400],
        "origin": [(403, None)] * 3,
        "preflight": (403, None),
        "stream": [101, 403, 400],
    }


def listening(port: int) -> list[str]:
    """The local addresses (hexadecimal, as the kernel lists them) at which somebody listens on this port."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")]


@pytest.mark.parametrize(
    "name", ["SIGKILL", *(pytest.param(n, marks=pytest.mark.heavy) for n in ("SIGTERM", "SIGINT"))]
)
def test_whatever_ends_the_command_ends_the_server(name: str, start: Start, mark: dict[str, str]) -> None:
    child = start(after="time.sleep(600)")
    assert child.stdout is not None
    port = int(child.stdout.readline())
    child.stdout.readline()
    assert len(servers(mark)) == 1
    assert listening(port) == [f"0100007F:{port:04X}"]  # 127.0.0.1
    child.send_signal(signal.Signals[name])
    child.wait(20)
    assert not left_after(mark, 10)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_killed_while_the_server_starts(start: Start, mark: dict[str, str]) -> None:
    child = start(before="time.sleep(600)")
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    assert not left_after(mark, 10)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////proc/none/prefect.db"}, "died: "),
        ({"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "1"}, "did not answer within 1 s"),
    ],
    ids=["dies", "too slow"],
)
def test_a_server_that_does_not_come_up(
    environment: dict[str, str], words: str, start: Start, mark: dict[str, str]
) -> None:
    child = start(**environment)
    out, err = child.communicate(timeout=120)
    assert child.returncode != 0
    assert "ApiNotReady" in err and words in err and "PREFECT_API_URL" in err
    assert len(out.splitlines()) == 1
    assert not marked(mark)


def test_the_users_own_server_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    asked: list[str | None] = []
    monkeypatch.setattr(embedded_api, "require_api", lambda settings: asked.append(settings.api.url))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert EmbeddedApi.start() is None
    assert asked == ["http://127.0.0.1:1/api"]


@pytest.mark.heavy
def test_servers_that_make_a_new_database_at_once(start: Start, tmp_path: Path) -> None:
    """Prefect's migrations are not made for company: without a lock about one in three breaks."""
    for round_ in range(amount(2, 3)):
        children = [start(PREFECT_HOME=str(tmp_path / str(round_))) for _ in range(3)]
        for child in children:
            _, err = child.communicate(timeout=300)
            assert child.returncode == 0, err
