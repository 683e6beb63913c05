"""What a regression tells the server: the event that the automation waits for, with what its message names."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import jinja2
import pytest
from prefect.events import Event

import tasks.prefect_ui.nightly_summary as module
from artifacts.store.store import Store
from deployments.server import automations
from tasks.prefect_ui.nightly_summary import report_regressions
from tests.artifacts.support import SHA, add, make_release


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "emit_event", lambda **event: events.append(event))
    return events


def test_the_webhook_is_told_which_release_and_what(store: Store, emitted: list[dict[str, Any]]) -> None:
    release, _ = make_release(store, "a", SHA, add(store, b"x"))
    report_regressions(release, ['top-1 fell by "2 points"', "the build takes longer"])
    (event,) = emitted
    told = next(a for a in automations._notifications(uuid4()) if a.name == automations.TELL_OF_REGRESSIONS)
    assert told.trigger.expect == {event["event"]}
    assert "prefect.resource.id" in event["resource"]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    message = json.loads(environment.from_string(told.actions[0].payload).render(event=Event(**event)))
    assert "a@1" in str(message) and 'fell by "2 points"' in str(message) and "takes longer" in str(message)


def test_no_regression_no_event(store: Store, emitted: list[dict[str, Any]]) -> None:
    release, _ = make_release(store, "a", SHA, add(store, b"x"))
    report_regressions(release, [])
    assert emitted == []
