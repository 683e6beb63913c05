"""Making tables and pages for Prefect's UI, which interprets markdown in pages, descriptions and every cell of a table.

The UI would load pictures in untrusted text, and show links. So text is escaped with `markdown`: for tables here, for
pages by their authors. Only this module creates artifacts of these two kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from artifacts.inert import markdown
from artifacts.manifest import Cell


def cell(value: Cell) -> Cell:
    """A cell's value: None becomes blank. (Rows never hold NaN, which breaks the UI's page.)"""
    if value is None:
        return ""
    return markdown(value) if isinstance(value, str) else float(f"{value:.8g}") if isinstance(value, float) else value


def show_table(rows: Sequence[Mapping[str, Cell]], key: str, description: str) -> UUID:
    """Show a table of texts and numbers; texts are escaped here. Returns the artifact's id, to link to it."""
    shown = [{markdown(name): cell(value) for name, value in row.items()} for row in rows]
    return cast("UUID", create_table_artifact(table=shown, key=key, description=markdown(description)))


def show_page(page: str, key: str, description: str | None = None) -> None:
    """Show a page of markdown; the caller escapes all untrusted text in it (`artifacts.inert.markdown`, `fenced`)."""
    create_markdown_artifact(markdown=page, key=key, description=None if description is None else markdown(description))
