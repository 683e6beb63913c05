"""What all pydantic models of ours have in common, and what is said of values that they do not take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from artifacts.errors import ClipsmithError
from artifacts.nearest import meant, nearest

_Path = tuple[str | int, ...]


class Frozen(BaseModel):
    """Never changed once it is made, and with no other fields than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Strict(Frozen):
    """One that people write: besides, a value of another type is not converted."""

    model_config = ConfigDict(strict=True)


@dataclass(frozen=True)
class Complaint:
    """What is wrong with a key, as `calibration.samples`, or its value; the key is empty where no single one is wrong.

    Of a key that there is not, `valid` are those that there are, and `nearest` one of them that is like it, if any. An
    error of ours says what it `expected` and the `fix`.
    """

    key: str
    what: str
    valid: tuple[str, ...] = ()
    nearest: str | None = None
    expected: str | None = None
    fix: str | None = None

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


def all_complaints(model: type[BaseModel], values: dict[str, Any], own: Sequence[str] = ()) -> list[Complaint]:
    """Everything that `model` refuses in values that people wrote; none for those that it takes.

    An error of ours ends pydantic's validation, so that nothing else is told: what it is about is found by leaving out
    one value after the other, and the rest is looked at without it.
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
    """Every field that `model` refuses, in a line."""
    return "; ".join(each.sentence() for each in complaints(model, error, own))


def _refusal(model: type[BaseModel], values: dict[str, Any]) -> ValidationError | ClipsmithError | None:
    try:
        model.model_validate(values)
    except (ValidationError, ClipsmithError) as error:
        return error
    return None


def _is_about(error: ClipsmithError, path: _Path, model: type[BaseModel], values: dict[str, Any]) -> bool:
    """Whether it goes when the value at `path` does, and not for another that has to be there."""
    other = _refusal(model, _without(values, path))
    if isinstance(other, ValidationError):
        return not any(each["loc"][:-1] == path[:-1] or each["loc"] == path[:-1] for each in other.errors())
    return str(other) != str(error)


def _leaves(values: Any, path: _Path = ()) -> Iterator[_Path]:
    """Where the values of nested mappings lie, and of their lists with several entries each entry."""
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
