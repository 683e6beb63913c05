"""Secrets that `up` and its runs know are in no log, database, artifact, release or list of processes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from prefect.client.schemas.objects import FlowRun

from deployments.server.own_server import password_file
from tests.hostile.test_secrets import text_in
from tests.system.receiver import Receiver
from tests.system.servers import Up, dump, read_run, trigger

pytestmark = pytest.mark.heavy


def command_lines() -> str:
    """Of every process that there is now."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_text(errors="replace"))
        except OSError:  # it has ended
            continue
    return "\n".join(found)


def test_they_stay_where_they_belong(
    running: Up, demo_run: FlowRun, receiver: Receiver, canaries: dict[str, str]
) -> None:
    words = {name: value.rpartition("/")[2] for name, value in canaries.items()}
    words["password"] = running.password.partition(":")[2]
    words["header"] = base64.b64encode(running.password.encode()).decode()
    assert all(len(word) > 20 for word in words.values())

    listed = ""
    failed = trigger(running.api_url, "optimize/optimize", {"parameters": {"model": "/no/such/canary"}})
    while not (state := read_run(running.api_url, failed).state) or not state.is_final():
        listed += command_lines()
    assert state.is_failed() and "prefect.engine" in listed.replace("\0", " ") and str(running.port) in listed
    receiver.wait_for_run(failed, 30)
    assert any(path.endswith(words["CLIPSMITH_WEBHOOK_URL"]) for path in receiver.paths), "it was used"

    database = dump(running.environment["PREFECT_API_DATABASE_CONNECTION_URL"])
    assert "/no/such/canary" in database and str(demo_run.id) in database
    home = Path(running.environment["PREFECT_HOME"])
    files = [path for path in running.log.parent.rglob("*") if path.is_file() and path != password_file(home)]
    assert {running.log} < set(files)
    said = {"the list of processes": listed.encode(), "the database": database.encode()}
    said |= {f"{path}-{n}": text for path in files for n, text in enumerate(text_in(path))}
    assert [
        (where, name) for where, text in said.items() for name, word in words.items() if word.encode() in text
    ] == []
