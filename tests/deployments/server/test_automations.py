"""Which automations a server is left with; a real server is told in tests/system/test_up.py."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import create_autospec
from uuid import UUID, uuid4

import pytest
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import Automation, EventTrigger, Posture
from pydantic import SecretStr

from artifacts.errors import ConfigError
from artifacts.exit_codes import ExitCode
from deployments.server import automations
from deployments.server.automations import apply_automations, ended_calls, limit_webhooks, webhook_url

CRASHED = "clipsmith: a run that gives no sign of life has crashed"
WEBHOOK = {"clipsmith: tell of a run that failed or crashed", "clipsmith: tell of a regression"}


class Server:
    """A server that has automations of these names, of an earlier version, and perhaps paused ones."""

    def __init__(self, *names: str, enabled: bool = True) -> None:
        earlier = EventTrigger(expect={"something else"}, posture=Posture.Reactive, threshold=1)
        self.has = {
            key: Automation(id=key, name=name, enabled=enabled, trigger=earlier, actions=[])
            for key, name in ((uuid4(), name) for name in names)
        }
        self.client: Any = create_autospec(SyncPrefectClient, instance=True)
        self.client.read_automations_by_name.side_effect = self._read
        self.client.create_automation.side_effect = lambda new: self._update(uuid4(), new)
        self.client.update_automation.side_effect = self._update
        self.client.delete_automation.side_effect = self.has.pop

    def _read(self, wanted: str) -> list[Automation]:
        return [each for each in self.has.values() if each.name == wanted]

    def _update(self, key: UUID, new: Any) -> None:
        sent = new.model_dump(exclude_unset=True)  # as the client does: the server takes defaults for the rest
        self.has[key] = Automation(id=key, **sent)

    @property
    def names(self) -> list[str]:
        return sorted(each.name for each in self.has.values())


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSMITH_WEBHOOK_URL", "http://127.0.0.1:9/hook")
    block = uuid4()
    monkeypatch.setattr(automations, "_webhook", lambda _url: block)


@pytest.mark.usefixtures("webhook")
@pytest.mark.parametrize("known", [(), (CRASHED,), (CRASHED, *WEBHOOK)], ids=["new", "without", "with"])
def test_with_an_address_there_is_one_of_each(known: tuple[str, ...]) -> None:
    server = Server(*known)
    before = set(server.has)
    assert sorted(apply_automations(server.client)) == server.names == sorted({CRASHED, *WEBHOOK})
    assert before <= set(server.has), "updated in place"


def test_a_shell_that_names_no_address_leaves_the_calls_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLIPSMITH_WEBHOOK_URL", raising=False)
    server = Server(CRASHED, *WEBHOOK, "somebody's own")
    before = {key: each for key, each in server.has.items() if each.name in WEBHOOK}
    assert ended_calls(server.client) == []
    assert sorted(apply_automations(server.client)) == sorted([CRASHED, *WEBHOOK])
    assert {key: each for key, each in server.has.items() if each.name in WEBHOOK} == before


def test_with_an_empty_address_nobody_is_called_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSMITH_WEBHOOK_URL", "")
    server = Server(CRASHED, *WEBHOOK, "somebody's own")
    assert sorted(ended_calls(server.client)) == sorted(f"{name}: calls the webhook -> nothing" for name in WEBHOOK)
    assert len(server.has) == 4, "asking changes nothing"
    assert apply_automations(server.client) == [CRASHED]
    assert server.names == sorted([CRASHED, "somebody's own"])
    assert ended_calls(server.client) == []


@pytest.mark.usefixtures("webhook")
def test_what_somebody_has_paused_stays_paused() -> None:
    server = Server(CRASHED, *WEBHOOK, enabled=False)
    apply_automations(server.client)
    assert not any(each.enabled for each in server.has.values())


@pytest.mark.usefixtures("webhook")
@pytest.mark.parametrize("enabled", [True, False])
def test_what_has_not_changed_is_left_alone(enabled: bool) -> None:
    """Any update makes Prefect's server forget what a trigger was counting."""
    server = Server(CRASHED, *WEBHOOK, enabled=enabled)
    apply_automations(server.client)
    assert server.client.update_automation.call_count == 3
    apply_automations(server.client)
    assert server.client.update_automation.call_count == 3


@pytest.mark.parametrize(
    ("address", "called"),
    [
        ("https://hooks.example/canary", True),
        ("http://127.0.0.1:8080/canary", True),
        ("http://localhost/canary", True),
        ("http://[::1]:8080/canary", True),
        ("http://hooks.example/canary", False),
        ("http://127.0.0.1.example/canary", False),
        ("http://localhost@hooks.example/canary", False),
        ("http://169.254.169.254/canary", False),
        ("file:///canary", False),
        ("hooks.example/canary", False),
        ("https:///canary", False),
        ("https://hooks.example:canary/", False),
        ("https://hooks.example/canary\n", False),
    ],
)
def test_what_is_told_cannot_be_read_on_the_way(address: str, called: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSMITH_WEBHOOK_URL", address)
    if called:
        assert webhook_url() == address
        return
    server = Server()
    with pytest.raises(ConfigError, match="CLIPSMITH_WEBHOOK_URL") as refused:
        apply_automations(server.client)
    assert refused.value.exit_code == ExitCode.WRONG_INPUT
    assert "canary" not in str(refused.value), "the address may be a secret"
    assert server.names == []
    monkeypatch.setenv("CLIPSMITH_WEBHOOK_ALLOW_HTTP", "1")
    if address.startswith("http://"):
        assert webhook_url() == address
    else:
        with pytest.raises(ConfigError):
            webhook_url()


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on the loopback that answers so."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_webhook_leads_nowhere_else_and_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(307)
            self.send_header("Location", "/elsewhere")
            if self.path == "/":
                self.send_header("Content-Length", "0")
            self.end_headers()
            while self.path == "/slow" and not ended.wait(0.05):  # no wait of the client is long
                self.wfile.write(b"x")

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setattr(Webhook, "call", Webhook.call)  # so that it is put back
    monkeypatch.setattr(automations, "WEBHOOK_S", 1.0)
    limit_webhooks()
    with answering(Handler) as url:
        try:
            answer = asyncio.run(Webhook(url=SecretStr(url)).call(payload="{}"))
            assert (answer.status_code, asked) == (307, ["/"])
            with pytest.raises(TimeoutError):
                asyncio.run(Webhook(url=SecretStr(f"{url}slow")).call(payload="{}"))
        finally:
            ended.set()
