"""What all pydantic models of ours have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Never changed once it is made, and with no other fields than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Strict(Frozen):
    """One that people write: besides, a value of another type is not converted."""

    model_config = ConfigDict(strict=True)
