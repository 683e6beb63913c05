"""What all pydantic models of ours have in common, and what is said of values that they do not take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from artifacts.nearest import meant, nearest


class Frozen(BaseModel):
    """Never changed once it is made, and with no other fields than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Strict(Frozen):
    """One that people write: besides, a value of another type is not converted."""

    model_config = ConfigDict(strict=True)


@dataclass(frozen=True)
class Complaint:
    """What is wrong with a key, as `calibration.samples`, or its value; the key is empty where no single one is wrong.

    Of a key that there is not, `valid` are those that there are, and `nearest` one of them that is like it, if any.
    """

    key: str
    what: str
    valid: tuple[str, ...] = ()
    nearest: str | None = None

    def sentence(self) -> str:
        """In a line."""
        said = f"{self.key}: {self.what}" if self.key else self.what
        return f"{said} ({meant(self.nearest)}valid keys: {', '.join(self.valid)})" if self.valid else said


def complaints(model: type[BaseModel], error: ValidationError, own: Sequence[str] = ()) -> list[Complaint]:
    """Every field that `model` refuses. Its fields `own` are set by us, and no keys that anybody writes."""
    found = []
    for each in error.errors():
        *parents, name = each["loc"] or ("",)
        valid = _keys(model, parents) if each["type"] == "extra_forbidden" else ()
        valid = tuple(key for key in valid if parents or key not in own)
        found.append(Complaint(".".join(map(str, each["loc"])), each["msg"], valid, nearest(str(name), valid)))
    return found


def problems(model: type[BaseModel], error: ValidationError, own: Sequence[str] = ()) -> str:
    """Every field that `model` refuses, in a line."""
    return "; ".join(each.sentence() for each in complaints(model, error, own))


def _keys(model: type[BaseModel], path: Sequence[str | int]) -> tuple[str, ...]:
    """The keys of the model that lies at `path` in another; none where that is not known."""
    kind: type[BaseModel] | None = model
    for name in path:
        if isinstance(name, str) and kind is not None:
            field = kind.model_fields.get(name)
            kind = None if field is None else _model_in(field.annotation)
    return () if kind is None else tuple(field.alias or name for name, field in kind.model_fields.items())


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, or is about: of `list[X]` and `X | None` it is X."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each)) is not None), None)
