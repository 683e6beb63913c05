"""The release's tables as Prefect table artifacts, for people who look at the run in the UI."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from artifacts.manifest import Cell
from artifacts.store import active_store
from tasks.publish import Draft


def _cell(value: Cell) -> Cell:
    """Blank for null: rows never hold NaN, which breaks the UI's page."""
    if value is None:
        return ""
    return float(f"{value:.8g}") if isinstance(value, float) else value


@task(name="show-tables", persist_result=False)
def show_tables_task(draft: Draft) -> None:
    """One table artifact per table, before publishing: nothing may fail after it."""
    release = f"{draft.snapshot.model}, {draft.identity()[:12]}"
    for name, rows in draft.tables.items():
        shown = [{key: _cell(value) for key, value in row.items()} for row in rows]
        create_table_artifact(table=shown, key=f"clipsmith-{name}", description=f"{name} of {release}")
    command = f"--store {active_store().root}"
    create_markdown_artifact(
        markdown=f"# {release}\n\n`clipsmith show {draft.identity()[:12]} {command}` prints this release, "
        f"`clipsmith report {draft.identity()[:12]} {command}` where its report is.\n",
        key="clipsmith-release",
    )
