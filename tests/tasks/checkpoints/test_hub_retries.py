"""Against a hub of our own on the loopback: the library's real requests, answered as a hub in trouble would."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest
import tenacity
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from tasks.checkpoints.hub_retries import is_transient, patiently

COMMIT = "0" * 40
MODEL = {"id": "some/model", "sha": COMMIT, "siblings": []}


class Hub(ThreadingHTTPServer):
    """Gives these statuses in turn, and the last one for ever; 200 is an empty model."""

    statuses: list[int]
    asked: list[str]

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        body = [] if "/tree/" in path else MODEL
        return status, json.dumps(body if status == 200 else {"error": "not now"}).encode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        status, body = self.server.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub(("127.0.0.1", 0), Answer)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests run with the library's offline mode, which asks nobody."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited."""
    waited: list[float] = []
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.mark.parametrize("busy", [429, 503, 504])
def test_a_busy_hub_is_asked_again_later_and_later(hub: Hub, waits: list[float], tmp_path: Path, busy: int) -> None:
    hub.statuses = [busy, busy, 200]
    folder = patiently(partial(snapshot_download, "some/model", endpoint=hub.url, cache_dir=tmp_path))
    assert Path(folder).name == COMMIT
    assert len(waits) == 2
    assert 2 <= waits[0] < waits[1] <= 30


def test_a_hub_that_stays_busy_is_asked_four_times(hub: Hub, waits: list[float], tmp_path: Path) -> None:
    hub.statuses = [503]
    with pytest.raises((LocalEntryNotFoundError, HfHubHTTPError)):
        patiently(partial(snapshot_download, "some/model", endpoint=hub.url, cache_dir=tmp_path))
    assert len(hub.asked) == 4
    assert len(waits) == 3


@pytest.mark.parametrize("final", [401, 403, 404])
def test_an_answer_is_final(hub: Hub, waits: list[float], tmp_path: Path, final: int) -> None:
    hub.statuses = [final]
    with pytest.raises((LocalEntryNotFoundError, HfHubHTTPError)):
        patiently(partial(snapshot_download, "some/model", endpoint=hub.url, cache_dir=tmp_path))
    assert len(hub.asked) == 1
    assert waits == []


def test_a_machine_without_a_network_does_not_wait(waits: list[float], tmp_path: Path) -> None:
    with pytest.raises(LocalEntryNotFoundError):
        patiently(partial(snapshot_download, "some/model", endpoint="http://127.0.0.1:9", cache_dir=tmp_path))
    assert waits == []


def test_a_time_out_is_found_behind_what_was_raised_from_it() -> None:
    error = LocalEntryNotFoundError("please check your internet connection")
    assert not is_transient(error)
    error.__cause__ = httpx.ReadTimeout("nothing came")
    assert is_transient(error)
