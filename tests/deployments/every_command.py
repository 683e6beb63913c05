"""Every command by what is typed for it, as `variants check`; as Typer hands them to Click."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from deployments.cli import app


def _below(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _below(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


COMMANDS: dict[str, Any] = dict(_below(typer.main.get_command(app)))


def typed(words: list[str]) -> str:
    """The name of the command that these words begin with: the first, and of a group's the second, too."""
    first = words[0]
    return f"{first} {words[1]}" if first not in COMMANDS and len(words) > 1 else first
