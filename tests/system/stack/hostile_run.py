"""A flow whose every name, note and caption tries to be more than text; what it shows is made by our own functions.

`python -m tests.system.stack.hostile_run` prints the run's id and those of its artifacts as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.runtime import flow_run

import flows  # noqa: F401  (as every process of a run: its logs are text)
from artifacts.errors import DataNotFound
from artifacts.report.markdown import report_page
from artifacts.report.page import render_report
from tasks.prefect_ui.comparison_artifacts import show_comparison_task
from tasks.prefect_ui.nightly_summary import Outcome, show_summary_task
from tasks.prefect_ui.pages import show_page, show_table
from tasks.prefect_ui.tags import name_run, tag_run
from tests.attacks.poison import HOSTILE, poisoned
from tests.attacks.test_output import RELEASES, hostile_evidence

# PostgreSQL refuses half a character and NUL wherever they are raw; ours never are, in what the flow is given itself:
RUN: dict[str, Any] = {}


@flow(name="hostile")
def hostile() -> None:
    """Show it all, and fail with it."""
    RUN["run"] = str(flow_run.id)
    name_run(HOSTILE[:200])
    tag_run(HOSTILE[-300:], [HOSTILE[:300]])
    get_run_logger().info("class %s", HOSTILE)
    show_table([{"class": HOSTILE, "value": 0.5}], "hostile-table", HOSTILE)
    show_page(report_page(RELEASES[1], render_report(RELEASES[1], hostile_evidence())), "hostile-report", HOSTILE)
    latency = {"encoder": HOSTILE, "target": HOSTILE, "batch": 1, "status": HOSTILE, "note": HOSTILE, "speedup": None}
    show_comparison_task(HOSTILE, HOSTILE, [], [latency], [HOSTILE])
    show_summary_task([poisoned(Outcome, figures={}, before={})])
    raise DataNotFound(HOSTILE, where=HOSTILE)


def main() -> None:
    """Run it."""
    try:
        hostile()
    except DataNotFound:
        with get_client(sync_client=True) as client:
            mine = FlowRunFilter(id=FlowRunFilterId(any_=[RUN["run"]]))
            made = client.read_artifacts(flow_run_filter=mine)
        json.dump(RUN | {"artifacts": {str(each.key): str(each.id) for each in made if each.key}}, sys.stdout)


if __name__ == "__main__":
    main()
