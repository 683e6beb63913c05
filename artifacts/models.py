"""The base classes of all our pydantic models, and the messages about values that they refuse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from artifacts.errors import ClipsmithError
from artifacts.nearest import meant, nearest

_Path = tuple[str | int, ...]


class Frozen(BaseModel):
    """An immutable model that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Strict(Frozen):
    """A `Frozen` model for values that people write: a value of the wrong type is refused, not converted."""

    model_config = ConfigDict(strict=True)


@dataclass(frozen=True)
class Complaint:
    """What is wrong with a key (such as `calibration.samples`) or its value; the key is empty if it concerns several.

    For an unknown key, `valid` lists the known ones and `nearest` is the most similar of them, if any is similar.
    `expected` and `fix` are those of a `ClipsmithError`.
    """

    key: str
    what: str
    valid: tuple[str, ...] = ()
    nearest: str | None = None
    expected: str | None = None
    fix: str | None = None

    def sentence(self) -> str:
        """The complaint in one line."""
        said = f"{self.key}: {self.what}" if self.key else self.what
        return f"{said} ({meant(self.nearest)}valid keys: {', '.join(self.valid)})" if self.valid else said


def complaints(model: type[BaseModel], error: ValidationError, own: Sequence[str] = ()) -> list[Complaint]:
    """Every field that `model` refuses. The fields `own` are set by us, so they are not offered as valid keys."""
    found = []
    for each in error.errors():
        *parents, name = each["loc"] or ("",)
        valid = _keys(model, parents) if each["type"] == "extra_forbidden" else ()
        valid = tuple(key for key in valid if parents or key not in own)
        found.append(Complaint(".".join(map(str, each["loc"])), each["msg"], valid, nearest(str(name), valid)))
    return found


def all_complaints(model: type[BaseModel], values: dict[str, Any], own: Sequence[str] = ()) -> list[Complaint]:
    """Everything that `model` refuses in `values`, which people wrote; empty if it accepts them.

    A `ClipsmithError` from a validator ends pydantic's validation early. So its value is found by leaving out one
    value after the other, and the remaining values are validated without it.
    """
    found: list[Complaint] = []
    while True:
        error = _refusal(model, values)
        if error is None:
            return found
        if isinstance(error, ValidationError):
            return found + complaints(model, error, own)
        path = next((path for path in _leaves(values) if _is_about(error, path, model, values)), ())
        key = ".".join(name for name in path if isinstance(name, str))
        found.append(Complaint(key, error.what, expected=error.expected, fix=error.fix))
        if not path:
            return found
        values = _without(values, path)


def problems(model: type[BaseModel], error: ValidationError, own: Sequence[str] = ()) -> str:
    """Every field that `model` refuses, in one line."""
    return "; ".join(each.sentence() for each in complaints(model, error, own))


def _refusal(model: type[BaseModel], values: dict[str, Any]) -> ValidationError | ClipsmithError | None:
    try:
        model.model_validate(values)
    except (ValidationError, ClipsmithError) as error:
        return error
    return None


def _is_about(error: ClipsmithError, path: _Path, model: type[BaseModel], values: dict[str, Any]) -> bool:
    """Whether leaving out the value at `path` removes `error`, and does so not only because that key is required."""
    other = _refusal(model, _without(values, path))
    if isinstance(other, ValidationError):
        return not any(each["loc"][:-1] == path[:-1] or each["loc"] == path[:-1] for each in other.errors())
    return str(other) != str(error)


def _leaves(values: Any, path: _Path = ()) -> Iterator[_Path]:
    """The paths of all values in nested mappings; for a list with several entries, the path of each entry."""
    if isinstance(values, dict):
        items: Iterable[tuple[Any, Any]] = values.items()
    elif isinstance(values, list) and len(values) > 1:
        items = enumerate(values)
    else:
        items = ()
        yield path
    for name, value in items:
        yield from _leaves(value, (*path, name))


def _without(values: Any, path: _Path) -> Any:
    name, *rest = path
    if rest:
        changed: Any = dict(values) if isinstance(values, dict) else list(values)
        changed[name] = _without(values[name], tuple(rest))
        return changed
    if isinstance(values, dict):
        return {key: value for key, value in values.items() if key != name}
    return [value for at, value in enumerate(values) if at != name]


def _keys(model: type[BaseModel], path: Sequence[str | int]) -> tuple[str, ...]:
    """The keys of the model at `path` inside `model`; empty if unknown."""
    kind: type[BaseModel] | None = model
    for name in path:
        if isinstance(name, str) and kind is not None:
            field = kind.model_fields.get(name)
            kind = None if field is None else _model_in(field.annotation)
    return () if kind is None else tuple(field.alias or name for name, field in kind.model_fields.items())


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation: X for `X`, `list[X]` and `X | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each)) is not None), None)
