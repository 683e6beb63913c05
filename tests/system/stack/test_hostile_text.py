"""Prefect's own pages with names, classes and captions that try: no script runs, and nothing is fetched or a link."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Scheduled
from prefect.types._datetime import now

from tests.attacks.poison import HOSTILE
from tests.system.browser import Album, album, browser_page, chromium
from tests.system.servers import Up

__all__ = ["album"]

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[3]
SENT = HOSTILE.encode("utf-8", "ignore").decode().replace("\0", "")
"""What can be sent to a server at all."""
_FOUND = """() => ({
    text: document.body.innerText,
    links: [...document.querySelectorAll('main a, article a')].map(each => each.getAttribute('href')),
    elements: document.querySelectorAll('iframe, object, embed, form[action], svg script, [onerror], [onload]').length,
    pictures: [...document.querySelectorAll('img')].map(each => each.getAttribute('src')),
})"""


@pytest.fixture(scope="session")
def browser() -> str:
    """Where Chromium is; skips before anything is started."""
    return chromium()


@pytest.fixture
def made(running: Up) -> dict[str, Any]:
    """The run, and its artifacts by their keys."""
    environment = running.environment | {"PREFECT_API_URL": f"{running.ui_url}/api", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.system.stack.hostile_run"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "\x1b[2J" not in done.stderr and r"\x1b[2J" in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.usefixtures("browser")
def test_pages_show_it(running: Up, made: dict[str, Any], album: Album) -> None:
    with SyncPrefectClient(running.api_url) as client:
        deployment = client.read_deployment_by_name("optimize/optimize").id
        later = Scheduled(scheduled_time=now() + timedelta(days=300))
        waiting = client.create_flow_run_from_deployment(
            deployment, parameters={"parameters": {"model": SENT, "name": SENT}}, name=SENT, tags=[SENT], state=later
        )
    form = f"/deployments/deployment/{deployment}/run?parameters={quote(json.dumps({'parameters': {'model': SENT}}))}"
    pages = {"run": f"/runs/flow-run/{made['run']}", "waiting": f"/runs/flow-run/{waiting.id}?tab=Parameters"}
    pages |= {"form": form, "deployment": f"/deployments/deployment/{deployment}", "runs": "/runs", "all": "/artifacts"}
    pages |= {key: f"/artifacts/artifact/{made['artifacts'][key]}" for key in made["artifacts"]}
    assert len(made["artifacts"]) == 6
    asked: list[str] = []
    dialogs: list[str] = []
    try:
        with browser_page() as page:
            page.on("request", lambda request: asked.append(request.url))
            page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
            for name, place in pages.items():
                page.goto(running.ui_url + place)
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(1500)
                album.take(page, name)
                found = page.evaluate(_FOUND)
                assert found["elements"] == 0, name
                assert all(picture.startswith("data:image/svg+xml;base64,") for picture in found["pictures"]), name
                if place.startswith("/artifacts/artifact"):
                    assert "<script>alert(1)</script>" in found["text"], name
                    assert all(link.startswith("/") for link in found["links"]), (name, found["links"])
                assert not any(str(link).startswith("javascript:") for link in found["links"]), name
    finally:
        with SyncPrefectClient(running.api_url) as client:
            client.delete_flow_run(waiting.id)
    own = (running.ui_url, running.ui_url.replace("http", "ws"), "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == []
    assert dialogs == []
