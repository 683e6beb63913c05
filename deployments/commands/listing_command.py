"""Help texts with lists from the registries: `{targets}` in a help text is filled in only when help is shown.

Importing the registries would cost every command a quarter of a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from typer.core import TyperCommand

from artifacts.manifest import Encoder, Precision

EXAMPLES = Path(__file__).parents[1] / "examples"
_NAME = re.compile(r"\{(\w+)\}")


class ListingCommand(TyperCommand):
    """A command whose options and arguments may have placeholders in their help: `{name}` for a name in `LISTS`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help with the lists filled in."""
        for parameter in self.params:
            text = getattr(parameter, "help", None)
            if text:
                parameter.help = _NAME.sub(lambda found: ", ".join(LISTS[found[1]]()), text)  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def _targets() -> Iterable[str]:
    from tasks.engines import known_targets

    return known_targets()


def _recipes() -> Iterable[str]:
    from tasks.quantizing.recipe import builtin_names

    return builtin_names()


def _families() -> Iterable[str]:
    from tasks.families import FAMILIES

    return (family.name for family in FAMILIES)


def _methods() -> Iterable[str]:
    from flows.parameters import Method

    return get_args(Method)


def _baselines() -> Iterable[str]:
    from tasks.bench.torch_target import BASELINES

    return BASELINES


def _bench_targets() -> Iterable[str]:
    from tasks.bench import engine_target, torch_target

    return (*engine_target.TARGETS, torch_target.TARGET)


def examples(incomplete: str = "") -> list[str]:
    """The names of the packaged examples of variants that start with `incomplete`."""
    return sorted(path.stem for path in EXAMPLES.glob("*.yaml") if path.stem.startswith(incomplete))


LISTS: Mapping[str, Callable[[], Iterable[str]]] = {
    "encoders": lambda: get_args(Encoder),
    "precisions": lambda: get_args(Precision),
    "targets": _targets,
    "recipes": _recipes,
    "families": _families,
    "methods": _methods,
    "baselines": _baselines,
    "bench_targets": _bench_targets,
    "examples": examples,
}
