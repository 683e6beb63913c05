"""One person who clicks through Prefect's UI while demo runs go on: no answer may be an error. Not a test.

`python -m tests.benchmarks.ui_soak --minutes 10` starts `clipsmith up` on SQLite, asks what the UI's pages ask, and
exits with 1 when an answer was an error (503: the database is locked), a run failed, or the log says "locked".
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from prefect.client.schemas.objects import FlowRun

from tests.benchmarks.machine import describe
from tests.system.servers import SMALL, Up, read_run, trigger, up, wait_for

PEOPLE = 2
"""Tabs that ask at once: the page of the runs, and the page of one."""
PAUSE_S = 0.1
"""Between two questions of one tab: the UI asks a page's dozen in a burst, and each again every few seconds."""
_ANSWER_S = 60.0
_RUN_S = 600.0


def questions(run: str) -> list[tuple[str, str, dict[str, Any] | None]]:
    """What the pages of the dashboard, the runs, one run (its id), and the deployments ask: method, path and body."""
    one = {"flow_runs": {"id": {"any_": [run]}}}
    day = {"since": time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime()), "until": "2100-01-01T00:00:00Z"}
    events = {"filter": {"occurred": day, "order": "DESC"}, "limit": 50}
    return [
        ("GET", "/ui-settings", None),
        ("GET", "/api/admin/settings", None),
        ("POST", "/api/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 50}),
        ("POST", "/api/flow_runs/paginate", {"sort": "START_TIME_DESC", "limit": 10, "page": 1}),
        ("POST", "/api/flow_runs/count", {}),
        ("POST", "/api/flows/paginate", {"limit": 10, "page": 1}),
        ("POST", "/api/task_runs/filter", {**one, "limit": 200}),
        ("POST", "/api/task_runs/count", one),
        ("POST", "/api/ui/flow_runs/count-task-runs", {"flow_run_ids": [run]}),
        ("GET", f"/api/flow_runs/{run}", None),
        ("GET", f"/api/flow_runs/{run}/graph-v2", None),
        ("POST", "/api/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}),
        ("POST", "/api/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}, "limit": 200}),
        ("POST", "/api/artifacts/latest/filter", {"limit": 100}),
        ("POST", "/api/deployments/paginate", {"limit": 50, "page": 1}),
        ("POST", "/api/work_pools/filter", {"limit": 50}),
        ("POST", "/api/automations/filter", {"limit": 50}),
        ("POST", "/api/variables/filter", {"limit": 50}),
        ("POST", "/api/events/filter", events),
    ]


class Clicks:
    """What the tabs have asked, how long they waited, and every error, until `over` is set."""

    def __init__(self, server: Up, run: FlowRun) -> None:
        self.server, self.run, self.over = server, str(run.id), threading.Event()
        self.waits: list[float] = []
        self.errors: Counter[str] = Counter()

    def go_on(self) -> None:
        """Ask one question after the other."""
        with httpx.Client(base_url=self.server.ui_url, auth=self._password(), timeout=_ANSWER_S) as client:
            for position in itertools.count():
                if self.over.wait(PAUSE_S):
                    return
                asked = questions(self.run)
                self._ask(client, *asked[position % len(asked)])

    def _password(self) -> tuple[str, str]:
        user, _, word = self.server.password.partition(":")
        return user, word

    def _ask(self, client: httpx.Client, method: str, path: str, body: dict[str, Any] | None) -> None:
        begun = time.monotonic()
        try:
            answer = client.request(method, path, json=body)
            wrong = "" if answer.is_success else f"{answer.status_code}: {answer.text[:200]}"
        except httpx.HTTPError as error:
            wrong = type(error).__name__
        self.waits.append(time.monotonic() - begun)
        if wrong:
            self.errors[f"{path.replace(self.run, 'ID')} {wrong}"] += 1


def runs(server: Up, clicks: Clicks, minutes: float) -> Iterator[str]:
    """Start demo runs, each of other work, one after the other; yields what became of each."""
    until = time.monotonic() + 60 * minutes
    for count in itertools.count(32):
        if time.monotonic() >= until:
            return
        run = trigger(server.api_url, "optimize/optimize", {"parameters": SMALL | {"calibration": {"samples": count}}})
        clicks.run = str(run.id)
        wait_for(server.api_url, run, _RUN_S)
        yield str(read_run(server.api_url, run).state_name)


def main() -> int:
    """Soak and print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ui_soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="how long (%(default)s)")
    parser.add_argument("--log", type=Path, help="where to keep what the server has said; default: nowhere")
    options = parser.parse_args()
    machine = describe()
    print(f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB")
    with tempfile.TemporaryDirectory(prefix="clipsmith-soak-") as name, up(Path(name)) as server:
        clicks = Clicks(server, trigger(server.api_url, "optimize/optimize", {"parameters": SMALL}))
        tabs = [threading.Thread(target=clicks.go_on) for _ in range(PEOPLE)]
        for tab in tabs:
            tab.start()
        try:
            ended = Counter(runs(server, clicks, options.minutes))
        finally:
            clicks.over.set()
            for tab in tabs:
                tab.join()
        said = server.log.read_text(errors="replace")
        if options.log:
            options.log.write_text(said)
    locked = [line for line in said.splitlines() if "locked" in line]
    waits = sorted(clicks.waits)
    print(f"runs: {dict(ended)}; questions: {len(waits)}, median {1000 * waits[len(waits) // 2]:.0f} ms, ", end="")
    print(f"99 % {1000 * waits[len(waits) * 99 // 100]:.0f} ms, longest {1000 * waits[-1]:.0f} ms")
    for error, count in clicks.errors.most_common():
        print(f"{count} times {error}")
    print(f"lines of the log with 'locked': {len(locked)}", *locked[:5], sep="\n")
    failed = bool(clicks.errors or locked or set(ended) != {"Completed"})
    print("FAILED" if failed else "nothing was refused")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
