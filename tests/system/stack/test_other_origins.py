"""Who gets into a running `up`: whoever knows the password, from this machine's own pages; in a real browser.

A page of another origin once made a deployment with a shell step here, and the worker ran it. It fails now because it
does not know the password, because no other origin may read or ask anything, and because the server has no name but
this machine's. Each guard is tried without the others where a page can do that.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect.client.orchestration import SyncPrefectClient

from tests.conftest import run_clipsmith
from tests.system.browser import Album, album, browser_page, chromium
from tests.system.servers import Up

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["album"]

pytestmark = pytest.mark.heavy

ELSEWHERE = "--host-resolver-rules=MAP *.test 127.0.0.1"
ASK = """async ({api, password, kind}) => {
  const post = async (path, body, options) => {
    const more = password ? {authorization: "Basic " + btoa(password)} : {};
    const answer = await fetch(api + path, {method: "POST", headers: {"content-type": "application/json", ...more},
                                            body: JSON.stringify(body), ...options});
    return answer.type == "opaque" ? answer.type : [answer.status, await answer.json()];
  };
  const variable = {name: kind, value: "0"}, blind = {mode: "no-cors", headers: {}};
  const programs = {
    shell: async () => {
      const [, [found]] = await post("/deployments/filter", {deployments: {name: {any_: ["optimize"]}}});
      const [status, made] = await post("/deployments/", {name: kind, flow_id: found.flow_id,
        work_pool_name: found.work_pool_name, entrypoint: found.entrypoint, path: found.path,
        pull_steps: [{"prefect.deployments.steps.run_shell_script": {script: "touch pwned_by_a_page"}}]});
      await post(`/deployments/${made.id}/create_flow_run`, {state: {type: "SCHEDULED"}});
      return status;
    },
    fetched: async () => (await post("/variables/", variable))[0],
    text: () => post("/variables/", variable, {...blind, headers: {"content-type": "text/plain"}}),
    untyped: () => post("/variables/", variable, {...blind, body: new Blob([JSON.stringify(variable)])}),
    form: () => new Promise(done => {
      const form = document.createElement("form"), field = document.createElement("input");
      const frame = document.createElement("iframe");
      frame.name = "hidden"; frame.onload = () => done("sent");
      form.action = api + "/variables/"; form.method = "post"; form.enctype = "text/plain"; form.target = frame.name;
      field.name = `{"name": "${kind}", "value": "`; field.value = '"}';
      form.append(field); document.body.append(frame, form); frame.onload = () => done("sent"); form.submit();
    }),
    stream: () => new Promise(done => {
      const socket = new WebSocket(api.replace("http", "ws") + "/events/out", "prefect");
      socket.onopen = () => socket.send(JSON.stringify({type: "auth", token: password}));
      socket.onmessage = message => done(JSON.parse(message.data).type);
      socket.onclose = () => done("closed");
    }),
  };
  try { return await programs[kind](); } catch (error) { return `${error}`; }
}"""
PROGRAMS = ("shell", "fetched", "text", "untyped", "form", "stream")


@pytest.fixture(scope="module")
def browser() -> str:
    """Where Chromium is; skips before anything is started."""
    return chromium()


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[str]:
    """A page of another origin."""
    (tmp_path / "index.html").write_text("<!doctype html><title>pictures of cats</title>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://evil.test:{server.server_port}/"
        server.shutdown()


def made(running: Up) -> set[str]:
    """Which of the programs have made something."""
    with SyncPrefectClient(running.api_url) as client:
        names = {one.name for one in client.read_deployments()}
        return {kind for kind in PROGRAMS if client.read_variable_by_name(kind)} | (names & set(PROGRAMS))


def tried(page: Page, running: Up, password: str | None) -> dict[str, Any]:
    """What the page sees of each program."""
    given = {"api": f"{running.ui_url}/api", "password": password}
    return {kind: page.evaluate(ASK, given | {"kind": kind}) for kind in PROGRAMS}


@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("knows_the_password", [False, True])
def test_a_page_of_another_origin_does_nothing(running: Up, evil: str, *, knows_the_password: bool) -> None:
    with browser_page(ELSEWHERE) as page:
        page.goto(evil)
        seen = tried(page, running, running.password if knows_the_password else None)
    failed = "TypeError: Failed to fetch"
    # What a page sends blindly, it sends without header; that nothing came of it is asked below.
    blind = {"text": "opaque", "untyped": "opaque", "form": "sent"}
    assert seen == {"shell": failed, "fetched": failed, "stream": "closed"} | blind
    assert made(running) == set()


@pytest.mark.usefixtures("browser")
def test_a_page_under_another_name_of_this_machine_is_not_its_own(running: Up) -> None:
    """As when the name of a page is made to lead here once the page is open."""
    with browser_page(ELSEWHERE) as page:
        answer = page.goto(f"http://rebound.test:{running.port}/")
        assert answer is not None and answer.status == 400
        header = {"authorization": f"Basic {page.evaluate('password => btoa(password)', running.password)}"}
        for path in ("/api/health", "/api/admin/settings", "/ui-settings"):
            asked = "async ([path, headers]) => (await fetch(path, {headers})).status"
            assert page.evaluate(asked, [path, header]) == 400


@pytest.mark.usefixtures("browser")
def test_its_own_pages_do_what_the_others_tried(running: Up) -> None:
    """Or the tests above would show nothing. (What is sent blindly has no password.)"""
    with browser_page() as page:
        page.goto(running.ui_url.replace("127.0.0.1", "localhost"))
        seen = tried(page, running, None)
        assert (seen["fetched"], seen["stream"]) == (401, "closed")
        assert made(running) == set()
        given = {"api": f"{running.ui_url}/api", "password": running.password}
        assert page.evaluate(ASK, given | {"kind": "stream"}) == "auth_success"
        assert page.evaluate(ASK, given | {"kind": "fetched"}) == 201
    assert made(running) == {"fetched"}
    with SyncPrefectClient(running.api_url) as client:
        client.delete_variable_by_name("fetched")


@pytest.mark.usefixtures("browser")
def test_a_person_logs_in_once(running: Up, album: Album) -> None:
    with browser_page(logged_in=False) as page:
        page.goto(f"{running.ui_url}/deployments")
        page.wait_for_url("**/login?redirect=/deployments")
        album.take(page, "login")
        page.locator("input[type=password]").fill(running.password)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="optimize", exact=True).first.wait_for()
        page.goto(f"{running.ui_url}/automations")
        page.get_by_text("gives no sign of life").first.wait_for()
        album.take(page, "logged-in")
        assert "/login" not in page.url


def test_commands_find_the_server_and_its_password(running: Up, small_clip: Path, tmp_path: Path) -> None:
    """With nothing typed but where the home is."""
    typed = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
    environment = {name: value for name, value in running.environment.items() if name not in typed}
    deployed = run_clipsmith("deploy", "--yes", **environment)
    assert deployed.code == 0, deployed.err
    assert f"{running.ui_url}/api" in deployed.out and running.password not in deployed.out
    with SyncPrefectClient(running.api_url) as client:
        before = {run.id for run in client.read_flow_runs()}
        model = Path(shutil.copytree(small_clip, tmp_path / "model"))
        (model / "model.safetensors").write_bytes(bytes(100))
        done = run_clipsmith("optimize", model, "--calibration", "digits", **environment)
        assert "BadWeights: " in done.err
        (run,) = [run for run in client.read_flow_runs() if run.id not in before]
    assert run.state_name == "Failed"
