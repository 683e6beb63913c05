"""The table of families in `docs/your-own-model.md`, made from the registry: `python -m tests.docs.families_table`."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.families import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "your-own-model.md"
_HEAD = "| family | whose checkpoints | held to | for example |\n|---|---|---|---|\n"
_TABLE = re.compile(re.escape(_HEAD) + r"(?:\|.*\n)+")


def table() -> str:
    """One row for each family, as `clipsmith models` lists them."""
    rows = [
        f"| `{family.name}` | {family.covers} | {family.oracle} | {', '.join(f'`{name}`' for name in family.known)} |\n"
        for family in FAMILIES
    ]
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(_TABLE.sub(lambda _: table(), PAGE.read_text()))
