"""Checks of a manifest's parsed content before a `Manifest` is made: number, depth and length of values, its tables.

The digest inside a manifest from elsewhere proves nothing, as its writer computes it. These checks refuse manifests
that clipsmith cannot have written.
"""

from __future__ import annotations

from typing import Any

from artifacts import limits
from artifacts.schema import check_kept

_COUNTED = {"files": limits.FILES, "gates": limits.GATES}


def check(content: dict[str, Any]) -> None:
    """Check the parsed JSON of a manifest; fields and their types are checked by `artifacts.manifest.Manifest`.

    Raises:
        ValueError: too many, too deep or too long.
        TableError: a table that no release has, or rows that are not that table's.
    """
    for name, most in _COUNTED.items():
        entries = content.get(name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{name} is not a list of mappings")
        if len(entries) > most:
            raise ValueError(f"{len(entries):,} {name}, more than {most:,}")
    tables = content.get("tables", {})
    if not isinstance(tables, dict):
        raise ValueError("tables is not a mapping")
    for table, rows in tables.items():
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"table {table[:40]} is not a list of rows")
    _check_others({name: value for name, value in content.items() if name not in ("files", "tables")})
    for entry in content.get("files", []):
        for value in entry.values():
            _check_text(value)
    check_kept(tables)


def _check_others(content: Any) -> None:
    """Check everything outside tables and files: parameters, a recipe, packages."""
    level, seen = [content], 0
    for _ in range(limits.DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                for key in value:
                    _check_text(key)
                below += value.values()
            elif isinstance(value, list):
                below += value
            else:
                _check_text(value)
        seen += len(below)
        if seen > limits.OTHER_VALUES:
            raise ValueError(f"more than {limits.OTHER_VALUES:,} values beside tables and files")
        if not below:
            return
        level = below
    raise ValueError(f"nested more than {limits.DEPTH} deep")


def _check_text(value: Any) -> None:
    if isinstance(value, str) and len(value) > limits.TEXT:
        raise ValueError(f"a text of {len(value):,} characters, more than {limits.TEXT:,}")
    if isinstance(value, int) and abs(value) > limits.LARGEST_SIZE:
        raise ValueError("a whole number of more than 64 bits")
