"""What Prefect's UI is given to show: it reads markdown in pages, in descriptions and in every cell of a table.

A picture that it found there would be fetched, and a link followed. So text goes in as `markdown` makes it, here for
tables, and part by part for pages: nothing else makes artifacts of these two kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from artifacts.inert import markdown
from artifacts.manifest import Cell


def cell(value: Cell) -> Cell:
    """Blank for null: rows never hold NaN, which breaks the UI's page."""
    if value is None:
        return ""
    return markdown(value) if isinstance(value, str) else float(f"{value:.8g}") if isinstance(value, float) else value


def show_table(rows: Sequence[Mapping[str, Cell]], key: str, description: str) -> None:
    """A table of text and numbers, shown as they are."""
    shown = [{markdown(name): cell(value) for name, value in row.items()} for row in rows]
    create_table_artifact(table=shown, key=key, description=markdown(description))


def show_page(page: str, key: str, description: str | None = None) -> None:
    """A page of markdown, in which `artifacts.inert.markdown` and `fenced` have made every text that is not ours."""
    create_markdown_artifact(markdown=page, key=key, description=None if description is None else markdown(description))
