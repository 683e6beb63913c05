"""Shell completion: recipes, targets and releases, as the code and the store have them.

After an error nothing is offered, as a message would disturb what the user is typing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from artifacts.errors import ClipsmithError


def refs(ctx: Any, incomplete: str) -> list[str]:
    """The releases of the store in --store, or of the default one, as `model`, `model@version` and `model:alias`."""
    from artifacts.copies.opening import open_store
    from artifacts.store import aliases
    from flows.defaults import default_store

    found: list[str] = []
    with suppress(ClipsmithError, OSError):
        # Read-only, so that a bucket is not read: completion must not wait for the network.
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
    """The engine targets; in a list with commas, completes the last one, without targets that are listed already."""
    from tasks.engines import known_targets

    before, comma, last = incomplete.rpartition(",")
    return [
        f"{before}{comma}{name}" for name in known_targets() if name.startswith(last) and name not in before.split(",")
    ]
