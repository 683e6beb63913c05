"""The release's tables as Prefect table artifacts, for people who look at the run in the UI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from artifacts.manifest import Cell, Row
from tasks.publish import Published


def _cell(value: Cell) -> Cell:
    if value is None:
        return ""
    return float(f"{value:.8g}") if isinstance(value, float) else value


@task(name="show-tables", persist_result=False)
def show_tables_task(published: Published, tables: Mapping[str, Sequence[Row]]) -> None:
    """One table artifact per table; empty cells are blank (rows never hold NaN, which breaks the UI's page)."""
    for name, rows in tables.items():
        shown = [{key: _cell(value) for key, value in row.items()} for row in rows]
        create_table_artifact(table=shown, key=f"clipsmith-{name}", description=f"{name} of {published.ref}")
    create_markdown_artifact(
        markdown=f"# {published.ref}\n\n`clipsmith show {published.ref} --store {published.store}`\n\n"
        f"`clipsmith report {published.ref} --store {published.store}` prints where the report is.\n",
        key="clipsmith-release",
    )
