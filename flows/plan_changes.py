"""Why a variant is made again: the differences between the plan contents of its last run and of this one, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

_MOST = 4
"""The most changes that are listed; further ones are only counted."""
_CONTENTS = {
    "source": "the checkpoint",
    "calibration": "the calibration data",
    "evaluation": "the evaluation data",
    "recipe": "the recipe",
}
_ABSENT = object()


class Step(TypedDict):
    """What decides a step: its version, the class of its result, and the versions of its packages."""

    version: int
    result: str
    packages: dict[str, str]


class Content(TypedDict):
    """The result of `flows.inputs.plan_content`."""

    source: dict[str, Any]
    calibration: str | None
    evaluation: str
    recipe: str | None
    settings: dict[str, Any]
    steps: dict[str, Step]
    clipsmith: str


_READER = TypeAdapter(Content)


def read_content(value: object) -> Content | None:
    """Parse a recorded content; None if another version of clipsmith wrote it in another form."""
    try:
        return _READER.validate_python(value, strict=True)
    except ValidationError:
        return None


def changes(before: Content, now: Content) -> str:
    """The differences between two contents in words; empty if they are equal."""
    found = list(_changes(before, now))
    if len(found) > _MOST:
        found = [*found[: _MOST - 1], f"{len(found) - _MOST + 1} more"]
    return ", ".join(found)


def _changes(before: Content, now: Content) -> Iterator[str]:
    if before["clipsmith"] != now["clipsmith"]:
        yield f"clipsmith {before['clipsmith']} -> {now['clipsmith']}"
    old, new = dict(before), dict(now)
    yield from (f"{words} changed" for name, words in _CONTENTS.items() if old[name] != new[name])
    yield from _differences(before["settings"], now["settings"], ())
    yield from _steps(before["steps"], now["steps"])


def _steps(before: Mapping[str, Step], now: Mapping[str, Step]) -> Iterator[str]:
    """Steps whose version or result class changed, and changed packages, each once for all steps that depend on it."""
    packages: dict[str, str] = {}
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            yield f"step {name} is {'new' if old is None else 'gone'}"
            continue
        if old["version"] != new["version"]:
            yield f"step {name} {old['version']} -> {new['version']}"
        elif old["result"] != new["result"] or old["packages"].keys() != new["packages"].keys():
            yield f"step {name} changed"
        for package in sorted(old["packages"].keys() & new["packages"].keys()):
            if old["packages"][package] != new["packages"][package]:
                packages[package] = f"{package} {old['packages'][package]} -> {new['packages'][package]}"
    yield from packages.values()


def _differences(before: Any, now: Any, place: tuple[str, ...]) -> Iterator[str]:
    """Parameters that differ, by their path."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(name, _ABSENT), now.get(name, _ABSENT), (*place, name))
    elif before is _ABSENT or now is _ABSENT:
        yield f"{'.'.join(place)} is {'new' if before is _ABSENT else 'gone'}"
    elif (type(before), before) != (type(now), now):
        yield f"{'.'.join(place)} {_short(before)} -> {_short(now)}"


def _short(value: Any) -> str:
    text = "none" if value is None else ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
