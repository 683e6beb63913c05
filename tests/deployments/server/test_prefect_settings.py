"""What Prefect was told and cannot be is refused in one message, at once, and no password is shown."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import ClipsmithError, NoServer, PrefectMisconfigured
from artifacts.exit_codes import ExitCode
from deployments.server.prefect_settings import load_settings, require_api, require_home

Serve = Callable[..., str]
SECRET = "admin:hidden-word"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(200, b'"3.8.8"')`: the address of a server that answers every request so."""
    with ExitStack() as stack:

        def start(status: int, body: bytes) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    wanted = self.headers.get("Authorization") if status == 401 else None
                    self.send_response(200 if wanted == "Basic YWRtaW46aGlkZGVuLXdvcmQ=" else status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_: Any) -> None:
                    pass

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
            return f"http://127.0.0.1:{server.server_port}"

        yield start


def refusal(error: type[ClipsmithError], settings: Any) -> ClipsmithError:
    with pytest.raises(error) as refused:
        require_api(settings)
    found = refused.value
    assert found.where and found.expected and found.fix
    assert "\n" not in found.what
    assert SECRET.partition(":")[2] not in str(found)
    return found


@pytest.mark.parametrize(
    ("url", "what", "fix"),
    [
        ("localhost:4200", "does not begin with http://", "PREFECT_API_URL=http://localhost:4200/api"),
        ("localhost:4200/api", "does not begin with http://", "PREFECT_API_URL=http://localhost:4200/api"),
        (f"{SECRET}@host:4200", "does not begin with http://", "...@host:4200/api"),
        ("ftp://localhost/api", "is not the URL of a server", "correct"),
        ("http:///api", "is not the URL of a server", "correct"),
        (f"http://{SECRET}@localhost:99999/api", "is not the URL of a server", "correct"),
        ("http://localhost:no/api", "is not the URL of a server", "correct"),
    ],
)
def test_an_url_that_is_none(url: str, what: str, fix: str, told: Any) -> None:
    error = refusal(PrefectMisconfigured, told(PREFECT_API_URL=url))
    assert what in error.what and fix in str(error.fix)
    assert error.exit_code == ExitCode.WRONG_INPUT
    assert "PREFECT_API_URL of the environment" in str(error.where)


@pytest.mark.parametrize(
    ("path", "status", "body", "fix"),
    [
        ("/api", 200, b"<html>", "another program may listen there"),
        ("/api", 404, b"{}", "another program may listen there"),
        ("/", 200, b"<html>", "the path /api is missing"),
        ("", 404, b"", "the path /api is missing"),
        ("/api", 200, b'{"version": 3}', "another program"),
        ("/api", 200, b'"three"', "another program"),
        ("/api", 200, b"\xff\xfe", "another program"),
    ],
)
def test_something_else_than_prefect(path: str, status: int, body: bytes, fix: str, told: Any, serve: Serve) -> None:
    error = refusal(PrefectMisconfigured, told(PREFECT_API_URL=serve(status, body) + path))
    assert "is not the API of a Prefect server" in error.what
    assert fix in str(error.fix)


def test_another_major_version(told: Any, serve: Serve) -> None:
    error = refusal(PrefectMisconfigured, told(PREFECT_API_URL=serve(200, b'"2.20.1"') + "/api"))
    assert "version 2.20.1, and this is 3." in error.what


def test_a_server_that_is_down_or_has_trouble(told: Any, serve: Serve) -> None:
    error = refusal(NoServer, told(PREFECT_API_URL="http://127.0.0.1:9/api"))
    assert "refused" in error.what and error.exit_code == ExitCode.FAILED
    error = refusal(NoServer, told(PREFECT_API_URL=serve(500, b"") + "/api"))
    assert "it answers with status 500" in error.what


def test_passwords(told: Any, serve: Serve) -> None:
    url = serve(401, b'"3.8.8"') + "/api"
    error = refusal(PrefectMisconfigured, told(PREFECT_API_URL=url))
    assert "asks for a password, and PREFECT_API_AUTH_STRING is not set" in error.what
    error = refusal(PrefectMisconfigured, told(PREFECT_API_URL=url, PREFECT_API_AUTH_STRING=SECRET + "!"))
    assert "refuses the password of PREFECT_API_AUTH_STRING" in error.what
    with_password = url.replace("http://", f"http://{SECRET}@")
    shown = require_api(told(PREFECT_API_URL=with_password, PREFECT_API_AUTH_STRING=SECRET))
    assert shown == url.replace("http://", "http://...@")


def test_a_home_that_cannot_be_written(told: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(PrefectMisconfigured, match="home cannot be written") as refused:
            require_home(told(PREFECT_HOME=str(home)))
        assert refused.value.where == str(home)
    require_home(told(PREFECT_HOME=str(tmp_path / "new" / "home")))
    assert list((tmp_path / "new" / "home").iterdir()) == []


def test_settings_that_cannot_be_read_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text('active = "x\n')
    code = "from deployments.server.prefect_settings import load_settings\nload_settings()"
    environment = os.environ | {"PREFECT_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    before, _, message = done.stderr.rpartition("artifacts.errors.PrefectMisconfigured: ")
    assert message.startswith("Prefect's settings cannot be read: Illegal character")
    assert "Failed to initialize plugins" not in before


def test_settings_come_from_a_profile_too(told: Any, tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text('active = "x"\n[profiles.x]\nPREFECT_API_URL = "localhost:4200"\n')
    error = refusal(PrefectMisconfigured, told(PREFECT_HOME=str(tmp_path)))
    assert f"a profile in {tmp_path / 'profiles.toml'}" in str(error.where)


def test_settings_that_are_sound_are_read() -> None:
    assert load_settings().home == Path(os.environ["PREFECT_HOME"])
