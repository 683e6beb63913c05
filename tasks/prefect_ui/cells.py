"""Values of tables as Prefect's UI shows them well."""

from __future__ import annotations

from artifacts.manifest import Cell


def cell(value: Cell) -> Cell:
    """Blank for null: rows never hold NaN, which breaks the UI's page."""
    if value is None:
        return ""
    return float(f"{value:.8g}") if isinstance(value, float) else value
