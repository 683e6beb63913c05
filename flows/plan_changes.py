"""Why a variant is made again: what decides a run, now and when it was made before, told in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MOST = 4
"""So many changes are told; of more, how many there are."""
_CONTENTS = {
    "source": "the checkpoint",
    "calibration": "the calibration data",
    "evaluation": "the evaluation data",
    "recipe": "the recipe",
}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two contents of `flows.inputs.plan_content`, as one sentence; empty where nothing does."""
    found = list(_changes(before, now))
    if not found:
        return ""
    told = found if len(found) <= _MOST else [*found[: _MOST - 1], f"{len(found) - _MOST + 1} more"]
    return f"changed: {', '.join(told)}"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name, words in _CONTENTS.items():
        if before.get(name) != now.get(name):
            yield words
    yield from _differences(before.get("settings"), now.get("settings"), ())
    yield from _steps(before.get("steps") or {}, now.get("steps") or {})
    if before.get("clipsmith") != now.get("clipsmith"):
        yield f"clipsmith {before.get('clipsmith')} -> {now.get('clipsmith')}"


def _steps(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Steps whose work changed, and each package once, however many steps depend on it."""
    packages: dict[str, tuple[Any, Any]] = {}
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            yield f"step {name} is {'new' if old is None else 'gone'}"
            continue
        if old["version"] != new["version"]:
            yield f"step {name} {old['version']} -> {new['version']}"
        elif old["result"] != new["result"] or old["packages"].keys() != new["packages"].keys():
            yield f"step {name}"
        for package in sorted(old["packages"].keys() & new["packages"].keys()):
            if old["packages"][package] != new["packages"][package]:
                packages[package] = (old["packages"][package], new["packages"][package])
    yield from (f"{package} {old or 'absent'} -> {new or 'absent'}" for package, (old, new) in packages.items())


def _differences(before: Any, now: Any, place: tuple[str, ...]) -> Iterator[str]:
    """Parameters that differ, by their path."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(name), now.get(name), (*place, name))
    elif before != now:
        yield f"{'.'.join(place)} {_short(before)} -> {_short(now)}"


def _short(value: Any) -> str:
    text = "none" if value is None else ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
