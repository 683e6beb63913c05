"""The choices of a search: which units stay in FP16, and which linear layers get weight scales by channel."""

from __future__ import annotations

from dataclasses import dataclass

from artifacts.manifest import Encoder
from tasks.search.units import Unit


@dataclass(frozen=True)
class Choice:
    """A recipe, as its differences from the recipe that the search starts from; no unit is in both sets."""

    excluded: frozenset[Unit] = frozenset()
    by_channel: frozenset[Unit] = frozenset()

    def of(self, encoder: Encoder) -> Choice:
        """The part of the choice that concerns one encoder."""
        excluded, by_channel = (
            frozenset(unit for unit in units if unit.encoder == encoder) for units in (self.excluded, self.by_channel)
        )
        return Choice(excluded, by_channel)

    def names(self) -> list[str]:
        """The names that identify the choice, sorted."""
        return sorted([*(u.module for u in self.excluded), *(f"{u.module} by channel" for u in self.by_channel)])
