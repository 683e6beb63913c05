"""The server's automations: marking dead runs as crashed, and calling a webhook about failures and regressions."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from artifacts.errors import ConfigError

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import Automation, AutomationCore

HEARTBEAT_S = 30
"""Seconds between a run's heartbeats: PREFECT_FLOWS_HEARTBEAT_FREQUENCY, whose minimum this is."""
MISSED = 3
WEBHOOK_VARIABLE = "CLIPSMITH_WEBHOOK_URL"
ALLOW_HTTP_VARIABLE = "CLIPSMITH_WEBHOOK_ALLOW_HTTP"
WEBHOOK_BLOCK = "clipsmith"
WEBHOOK_S = 15.0
"""Time limit of a webhook call, in seconds."""
TELL_OF_RUNS = "clipsmith: tell of a run that failed or crashed"
TELL_OF_REGRESSIONS = "clipsmith: tell of a regression"

_RUN = """{
  "event": "{{ event.event }}",
  "flow": {{ flow.name | tojson }},
  "run": {{ flow_run.name | tojson }},
  "id": "{{ flow_run.id }}",
  "state": {{ flow_run.state.name | tojson }},
  "message": {{ (flow_run.state.message or "") | tojson }},
  "url": {{ (flow_run | ui_url) | tojson }}
}"""
_REGRESSION = """{
  "event": "{{ event.event }}",
  "model": {{ event.resource.id | tojson }},
  "release": {{ event.payload.release | tojson }},
  "message": {{ event.payload.message | tojson }}
}"""


def apply_automations(client: SyncPrefectClient) -> list[str]:
    """Create or update the automations by name. A paused automation stays paused.

    Those that call the webhook are left as they are where CLIPSMITH_WEBHOOK_URL is not set, as in another shell than
    the one that the server was started in; they are deleted where it is set to nothing.

    Returns: the names of the automations that the server has then.

    Raises:
        ConfigError: the webhook's address is not allowed.
    """
    wanted = [_mark_crashed()]
    url = webhook_url()
    if url:
        wanted += _notifications(_webhook(url))
    kept = [] if url else _calling(client)
    if kept and _no_calls():
        for existing in kept:
            client.delete_automation(existing.id)
        kept = []
    for automation in wanted:
        _put(client, automation)
    return [automation.name for automation in (*wanted, *kept)]


def ended_calls(client: SyncPrefectClient) -> list[str]:
    """The automations that applying would delete, one line each."""
    return [f"{each.name}: calls the webhook -> nothing" for each in _calling(client)] if _no_calls() else []


def _no_calls() -> bool:
    return os.environ.get(WEBHOOK_VARIABLE) == ""


def _calling(client: SyncPrefectClient) -> list[Automation]:
    """The server's automations that call the webhook."""
    names = (TELL_OF_RUNS, TELL_OF_REGRESSIONS)
    return [existing for name in names for existing in client.read_automations_by_name(name)]


def webhook_url() -> str | None:
    """The URL in CLIPSMITH_WEBHOOK_URL; None if it is not set, or empty.

    Raises:
        ConfigError: it is not a URL, or others on the network could read the messages (http:// to another machine).
    """
    url = os.environ.get(WEBHOOK_VARIABLE)
    if not url:
        return None
    try:
        parts = urlsplit(url)
        host, scheme, _ = parts.hostname or "", parts.scheme, parts.port
    except ValueError:  # such as a port that is not a number
        host = scheme = ""
    allowed = ("https", "http") if _is_loopback(host) or os.environ.get(ALLOW_HTTP_VARIABLE) == "1" else ("https",)
    if host and scheme in allowed and url.isprintable() and " " not in url:
        return url
    raise ConfigError(
        "the webhook's address may not be called",
        where=WEBHOOK_VARIABLE,  # not the address, which may be a secret
        expected="https://..., or http:// to this machine",
        fix=f"correct or unset it; {ALLOW_HTTP_VARIABLE}=1 allows http:// to others, who can then read it on the way",
    )


def limit_webhooks() -> None:
    """Limit webhook calls in this process to WEBHOOK_S in total, as httpx limits only each single wait. Redirects are
    not followed."""
    from prefect.blocks.webhook import Webhook

    call = Webhook.call

    async def limited(self: Webhook, payload: dict[str, Any] | str | None = None) -> Any:
        return await asyncio.wait_for(call(self, payload), WEBHOOK_S)

    Webhook.call = limited  # type: ignore[method-assign]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Create an automation, or update it if it differs. Equal ones are left alone, as every update resets the server's
    counters, such as the time since a run's last heartbeat."""
    for existing in client.read_automations_by_name(automation.name):
        wanted = automation.model_copy(update={"enabled": existing.enabled})
        if wanted.model_dump() != existing.model_dump(exclude={"id"}):
            client.update_automation(existing.id, wanted)
        return
    client.create_automation(automation)


def _mark_crashed() -> AutomationCore:
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name="clipsmith: a run that gives no sign of life has crashed",
        description=f"Its process, its worker or its machine died: {MISSED} heartbeats are missing.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=HEARTBEAT_S * MISSED),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                force=False,
                name="Crashed",
                message=f"no sign of life for {HEARTBEAT_S * MISSED} s: its process, worker or machine died",
            )
        ],
    )


def _webhook(url: str) -> UUID:
    """Create the block that holds the webhook's URL, and return its id. The URL may be a secret: the server encrypts
    blocks."""
    from prefect.blocks.webhook import Webhook
    from prefect.types import SecretDict
    from pydantic import SecretStr

    block = Webhook(url=SecretStr(url), headers=SecretDict({"Content-Type": "application/json"}))
    return cast("UUID", block.save(WEBHOOK_BLOCK, overwrite=True))


def _notifications(webhook: UUID) -> Iterator[AutomationCore]:
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    from tasks.prefect_ui.nightly_summary import REGRESSION_EVENT

    yield AutomationCore(
        name=TELL_OF_RUNS,
        description=f"Calls the webhook of ${WEBHOOK_VARIABLE}.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
        ),
        actions=[CallWebhook(block_document_id=webhook, payload=_RUN)],
    )
    yield AutomationCore(
        name=TELL_OF_REGRESSIONS,
        description=f"Calls the webhook of ${WEBHOOK_VARIABLE}.",
        trigger=EventTrigger(expect={REGRESSION_EVENT}, for_each={"prefect.resource.id"}, posture=Posture.Reactive),
        actions=[CallWebhook(block_document_id=webhook, payload=_REGRESSION)],
    )
