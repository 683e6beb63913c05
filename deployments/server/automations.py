"""What the server does by itself: it notices dead runs, and tells a webhook what somebody should look at."""

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
    from prefect.events.schemas.automations import AutomationCore

HEARTBEAT_S = 30
"""How often a run says that it lives: PREFECT_FLOWS_HEARTBEAT_FREQUENCY, of which this is the least."""
MISSED = 3
WEBHOOK_VARIABLE = "CLIPSMITH_WEBHOOK_URL"
ALLOW_HTTP_VARIABLE = "CLIPSMITH_WEBHOOK_ALLOW_HTTP"
WEBHOOK_BLOCK = "clipsmith"
WEBHOOK_S = 15.0
"""How long a call of a webhook may take, in seconds."""
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
    """Create or update them by their names; the ones that call the webhook are deleted when CLIPSMITH_WEBHOOK_URL is
    not set. One that somebody has paused stays paused.

    Returns: their names.

    Raises:
        ConfigError: the webhook may not be called.
    """
    wanted = [_mark_crashed()]
    url = webhook_url()
    if url:
        wanted += _notifications(_webhook(url))
    else:
        for name in (TELL_OF_RUNS, TELL_OF_REGRESSIONS):
            for existing in client.read_automations_by_name(name):
                client.delete_automation(existing.id)
    for automation in wanted:
        _put(client, automation)
    return [automation.name for automation in wanted]


def webhook_url() -> str | None:
    """The address of CLIPSMITH_WEBHOOK_URL; None where nobody is to be told.

    Raises:
        ConfigError: what is told there, and the address, could be read on the way.
    """
    url = os.environ.get(WEBHOOK_VARIABLE)
    if not url:
        return None
    try:
        parts = urlsplit(url)
        host, scheme, _ = parts.hostname or "", parts.scheme, parts.port
    except ValueError:  # a port that is no number, half an address
        host = scheme = ""
    allowed = ("https", "http") if _is_loopback(host) or os.environ.get(ALLOW_HTTP_VARIABLE) == "1" else ("https",)
    if host and scheme in allowed and url.isprintable() and " " not in url:
        return url
    raise ConfigError(
        "the webhook's address may not be called",
        where=WEBHOOK_VARIABLE,  # the address may be a secret
        expected="https://..., or http:// to this machine",
        fix=f"correct or unset it; {ALLOW_HTTP_VARIABLE}=1 allows http:// to others, who can then read it on the way",
    )


def limit_webhooks() -> None:
    """Let the calls of webhooks in this process end within WEBHOOK_S: httpx limits each wait, but not a whole answer.
    It follows no redirect."""
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
    """Create it, or update it where it differs: with any update the server forgets what it was counting, such as the
    time since a run's last heartbeat."""
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
    """The block that holds the address, which may be a secret: the server encrypts it."""
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
