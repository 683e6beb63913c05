"""What the shell offers after TAB: recipes, targets and releases, as the code and the store have them.

Nothing is offered where something is wrong: an error has no place in what is being typed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from artifacts.errors import ClipsmithError


def refs(ctx: Any, incomplete: str) -> list[str]:
    """The releases of the store that was named so far, or of the usual one: `model`, `model@version`, `model:alias`."""
    from artifacts.copies.opening import open_store
    from artifacts.store import aliases
    from flows.defaults import default_store

    found: list[str] = []
    with suppress(ClipsmithError, OSError):
        # Of a bucket what is here already: TAB does not wait for a network.
        store = open_store(ctx.params.get("store") or default_store(), writable=False)
        known, _ = store.summaries()
        found = [name for each in known for name in (each["model"], f"{each['model']}@{each['version']}")]
        found += [f"{model}:{alias}" for model, alias in aliases.names(store.root)]
    return [name for name in dict.fromkeys(found) if name.startswith(incomplete)]


def recipes(incomplete: str) -> list[str]:
    """The built-in recipes."""
    from tasks.quantizing.recipe import builtin_names

    return [name for name in builtin_names() if name.startswith(incomplete)]


def targets(incomplete: str) -> list[str]:
    """The engine targets; of several by commas, the last, which is none of those before it."""
    from tasks.engines import known_targets

    before, comma, last = incomplete.rpartition(",")
    return [
        f"{before}{comma}{name}" for name in known_targets() if name.startswith(last) and name not in before.split(",")
    ]
