"""Promotion with an approval on a real server and worker: the run pauses, a person answers through the API, it ends."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from artifacts.keeping import promotion as by_hand
from artifacts.store import aliases
from artifacts.store.store import Store
from tests.artifacts.support import add, digest, make_release, place, rewrite
from tests.system.servers import Up, run_log, trigger, wait_for

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `a@1`, to which production points, and `a@2`."""
    store = Store.open(tmp_path_factory.mktemp("promote") / "store")
    for n in (1, 2):
        make_release(store, "a", digest(str(n)), add(store, str(n).encode()))
    by_hand.promote(store, "a@1", "production")
    store.close()
    return store.root


def asked(running: Up, root: Path, **parameters: Any) -> tuple[FlowRun, str]:
    """A run of promote that waits for an answer, and what its form says."""
    given = {"release": "a@2", "store": str(root), **parameters}
    run = trigger(running.api_url, "promote/promote", {"parameters": given})
    state = wait_for(running.api_url, run, 120, "Paused")
    assert state.name == "Paused", run_log(running.api_url, run)
    keyset = state.state_details.run_input_keyset
    assert keyset is not None
    with SyncPrefectClient(running.api_url) as client:
        for _ in range(50):  # the run saves its question just after it has paused
            with suppress(PrefectHTTPStatusError):
                return run, json.loads(client.read_flow_run_input(run.id, keyset["description"]))
            time.sleep(0.2)
    raise AssertionError("the paused run asks nothing")


def answer(running: Up, run: FlowRun, **values: Any) -> None:
    with SyncPrefectClient(running.api_url) as client:
        result = client.resume_flow_run(run.id, run_input=values)
        assert result.status.value == "ACCEPT", result


def points_to(root: Path, alias: str) -> aliases.AliasEntry:
    return aliases.current(root, "a", alias)


def test_a_run_pauses_until_it_is_approved(running: Up, root: Path) -> None:
    run, question = asked(running, root, alias="approved")
    assert "Promote a@2 to approved" in question
    answer(running, run, approve=True, reason="looked at it")
    state = wait_for(running.api_url, run, 60)
    assert state.name == "Completed", run_log(running.api_url, run)
    entry = points_to(root, "approved")
    assert (entry.ref, entry.why) == ("a@2", "approved: looked at it")


def test_a_refusal_fails_the_run_and_moves_nothing(running: Up, root: Path) -> None:
    run, _ = asked(running, root)
    answer(running, run, approve=False, reason="not on a Friday")
    state = wait_for(running.api_url, run, 60)
    assert (state.name, "not on a Friday" in str(state.message)) == ("Failed", True)
    assert points_to(root, "production").number == 1


def test_an_alias_that_was_moved_meanwhile_stays_where_it_is(running: Up, root: Path) -> None:
    store = Store.open(root)
    by_hand.promote(store, "a@1", "moved")
    run, _ = asked(running, root, alias="moved")
    make_release(store, "a", digest("3"), add(store, b"3"))
    by_hand.promote(store, "a@3", "moved")
    answer(running, run, approve=True, reason="")
    state = wait_for(running.api_url, run, 60)
    assert (state.name, "moved meanwhile" in str(state.message)) == ("Failed", True)
    assert points_to(root, "moved").ref == "a@3"


def test_damage_fails_maintain(running: Up, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    thing = add(store, b"thing")
    make_release(store, "a", digest("1"), thing)
    parameters = {"parameters": {"store": str(store.root)}}
    run = trigger(running.api_url, "maintain/maintain", parameters)
    assert wait_for(running.api_url, run, 120).name == "Completed", run_log(running.api_url, run)
    rewrite(place(store, thing) / "a.bin", b"other")
    run = trigger(running.api_url, "maintain/maintain", parameters)
    state = wait_for(running.api_url, run, 120)
    assert (state.name, "1 damaged" in str(state.message)) == ("Failed", True)
